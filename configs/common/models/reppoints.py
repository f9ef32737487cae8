"""RepPoints with moment boxes and group norm, ResNet-50 (Yang et al. 2019)."""

from cankd.modeling.backbone import NormedFPN
from cankd.modeling.meta_arch import MaxIoUMatcher, PointAssigner, PointsToBoxes, RepPoints, RepPointsHead
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config

_retinanet = get_config("common/models/retinanet.py").model

model = L(RepPoints)(
    backbone=L(NormedFPN)(
        bottom_up=_retinanet.backbone.bottom_up, in_features=["res3", "res4", "res5"], out_channels=256, norm="GN"
    ),
    head=L(RepPointsHead)(input_shape=[L(ShapeSpec)(channels=256)] * 5, num_classes="${..num_classes}"),
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    num_classes=80,
    points_to_boxes=L(PointsToBoxes)(transform="moment"),
    point_assigner=L(PointAssigner)(scale="${..point_base_scale}", num_points=1),
    box_matcher=L(MaxIoUMatcher)(thresholds=[0.4, 0.5], labels=[0, -1, 1]),
    point_base_scale=4,
    pixel_mean=_retinanet.pixel_mean,
    pixel_std=_retinanet.pixel_std,
    input_format="BGR",
)
