"""RepPoints with moment boxes and group norm, ResNet-50 (Yang et al. 2019)."""

from cankd.modeling.meta_arch import PointAssigner, PointsToBoxes, RepPoints, RepPointsHead
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config
from detectron2.modeling.matcher import Matcher

_retinanet = get_config("common/models/retinanet.py").model

model = L(RepPoints)(
    backbone=_retinanet.backbone,
    head=L(RepPointsHead)(input_shape=[L(ShapeSpec)(channels=256)] * 5, num_classes="${..num_classes}"),
    head_in_features=["p3", "p4", "p5", "p6", "p7"],
    num_classes=80,
    points_to_boxes=L(PointsToBoxes)(transform="moment"),
    point_assigner=L(PointAssigner)(scale="${..point_base_scale}", num_points=1),
    box_matcher=L(Matcher)(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True),
    point_base_scale=4,
    pixel_mean=_retinanet.pixel_mean,
    pixel_std=_retinanet.pixel_std,
    input_format="BGR",
)
model.backbone.norm = "GN"
