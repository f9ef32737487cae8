"""CanKD: Mask R-CNN-R50 from Detectron2's Mask R-CNN-R101."""

from detectron2.model_zoo import get_checkpoint_url, get_config

from ..common.distillation import distill
from .mask_rcnn_R50 import dataloader, lr_multiplier, model, optimizer, train

_teacher = get_config("common/models/mask_rcnn_fpn.py").model
_teacher.backbone.bottom_up.stages.depth = 101

model = distill(model, _teacher, get_checkpoint_url("COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x"))

train.output_dir = "output/COCO-InstanceSegmentation/mask_rcnn_R50_from_R101"
