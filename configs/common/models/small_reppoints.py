from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from .reppoints import model
from .small_fpn import small_fpn

model.backbone = small_fpn(width=16, num_blocks=[1, 1, 1, 1])
model.num_classes = 10
model.head_in_features = ["p3", "p4", "p5"]
model.head.input_shape = [L(ShapeSpec)(channels=64)] * 3
model.head.conv_dims = [64, 64]
model.head.point_conv_dim = 64
model.point_base_scale = 2  # as the anchors of the other small detectors: objects of 16 to 32 pixels are P3's
model.pixel_std = [57.375, 57.12, 58.395]
