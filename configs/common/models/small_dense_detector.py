from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from .small_fpn import small_fpn


def small_dense_detector(model):
    """Makes a dense detector small: a narrow pyramid P3–P5 and two convolutions a tower."""
    model.backbone = small_fpn(width=16, num_blocks=[1, 1, 1, 1])
    model.num_classes = 10
    model.head_in_features = ["p3", "p4", "p5"]
    model.head.input_shape = [L(ShapeSpec)(channels=64)] * 3
    model.head.conv_dims = [64, 64]
    model.pixel_std = [57.375, 57.12, 58.395]
    return model
