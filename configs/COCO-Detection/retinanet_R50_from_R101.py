"""CanKD: RetinaNet-R50 from Detectron2's RetinaNet-R101."""

from detectron2.model_zoo import get_checkpoint_url, get_config

from ..common.distillation import distill
from .retinanet_R50 import dataloader, lr_multiplier, model, optimizer, train

_teacher = get_config("common/models/retinanet.py").model
_teacher.backbone.bottom_up.stages.depth = 101

model = distill(model, _teacher, get_checkpoint_url("COCO-Detection/retinanet_R_101_FPN_3x"))

train.output_dir = "output/COCO-Detection/retinanet_R50_from_R101"
