from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config

from .small_faster_rcnn import small_rcnn

model = small_rcnn(get_config("common/models/mask_rcnn_fpn.py").model)
heads = model.roi_heads
heads.mask_in_features = heads.box_in_features
heads.mask_pooler.scales = heads.box_pooler.scales
heads.mask_pooler.canonical_box_size = heads.box_pooler.canonical_box_size
heads.mask_head.input_shape = L(ShapeSpec)(channels=64, width=14, height=14)
heads.mask_head.conv_dims = [64, 64]
