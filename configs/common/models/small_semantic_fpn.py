from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from .semantic_fpn import model
from .small_fpn import small_fpn

model.backbone = small_fpn(width=16, num_blocks=[1, 1, 1, 1])
model.sem_seg_head.input_shape = {f"p{i}": L(ShapeSpec)(channels=64, stride=2**i) for i in (3, 4, 5)}
model.sem_seg_head.num_classes = 11
model.sem_seg_head.conv_dims = 64
model.pixel_std = [57.375, 57.12, 58.395]
