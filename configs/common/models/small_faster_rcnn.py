from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from .faster_rcnn import model
from .small_fpn import small_fpn

model.backbone = small_fpn(width=16, num_blocks=[1, 1, 1, 1])
model.pixel_std = [57.375, 57.12, 58.395]

_rpn = model.proposal_generator
_rpn.in_features = ["p3", "p4", "p5"]
_rpn.head.in_channels = 64
_rpn.anchor_generator.sizes = [[16], [32], [64]]
_rpn.anchor_generator.strides = [8, 16, 32]
_rpn.batch_size_per_image = 64
_rpn.pre_nms_topk = (400, 200)
_rpn.post_nms_topk = (200, 100)

_heads = model.roi_heads
_heads.num_classes = 10
_heads.batch_size_per_image = 64
_heads.box_in_features = ["p3", "p4", "p5"]
_heads.box_pooler.scales = (1 / 8, 1 / 16, 1 / 32)
_heads.box_head.input_shape = L(ShapeSpec)(channels=64, height=7, width=7)
_heads.box_head.fc_dims = [128]
_heads.box_predictor.input_shape = L(ShapeSpec)(channels=128)
