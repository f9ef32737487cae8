from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from .faster_rcnn import model
from .small_fpn import small_fpn


def small_rcnn(model):
    """Makes an R-CNN small: a narrow pyramid P3–P5 and few proposals."""
    model.backbone = small_fpn(width=16, num_blocks=[1, 1, 1, 1])
    model.pixel_std = [57.375, 57.12, 58.395]

    rpn = model.proposal_generator
    rpn.in_features = ["p3", "p4", "p5"]
    rpn.head.in_channels = 64
    rpn.anchor_generator.sizes = [[16], [32], [64]]
    rpn.anchor_generator.strides = [8, 16, 32]
    rpn.batch_size_per_image = 64
    rpn.pre_nms_topk = (400, 200)
    rpn.post_nms_topk = (200, 100)

    heads = model.roi_heads
    heads.num_classes = 10
    heads.batch_size_per_image = 64
    heads.box_in_features = ["p3", "p4", "p5"]
    heads.box_pooler.scales = (1 / 8, 1 / 16, 1 / 32)
    # Objects of 32 to 64 pixels are P4's, as for the anchors; of Detectron2's 224, all would be pooled from P3.
    heads.box_pooler.canonical_box_size = 32
    for head in [heads.box_head] if "box_head" in heads else heads.box_heads:
        head.input_shape = L(ShapeSpec)(channels=64, height=7, width=7)
        head.fc_dims = [128]
    for predictor in ([heads.box_predictor] if "box_predictor" in heads else heads.box_predictors):
        predictor.input_shape = L(ShapeSpec)(channels=128)
    return model


model = small_rcnn(model)
