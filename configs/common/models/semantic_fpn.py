"""Semantic FPN (Kirillov et al. 2019), for the 19 classes of Cityscapes."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config
from detectron2.modeling.meta_arch.semantic_seg import SemanticSegmentor, SemSegFPNHead

_rcnn = get_config("common/models/mask_rcnn_fpn.py").model

model = L(SemanticSegmentor)(
    backbone=_rcnn.backbone,
    sem_seg_head=L(SemSegFPNHead)(
        input_shape={f"p{i}": L(ShapeSpec)(channels=256, stride=2**i) for i in (2, 3, 4, 5)},
        num_classes=19,
        conv_dims=128,
        common_stride=4,
        norm="GN",
        ignore_value=255,
    ),
    pixel_mean=_rcnn.pixel_mean,
    pixel_std=_rcnn.pixel_std,
)
del model.backbone.top_block
