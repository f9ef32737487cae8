"""CanKD: Faster R-CNN-R50 from Detectron2's Faster R-CNN-R101."""

from detectron2.model_zoo import get_checkpoint_url

from ..common.distillation import distill
from ..common.models.faster_rcnn import model as _teacher
from .faster_rcnn_R50 import dataloader, lr_multiplier, model, optimizer, train

_teacher.backbone.bottom_up.stages.depth = 101

model = distill(model, _teacher, get_checkpoint_url("COCO-Detection/faster_rcnn_R_101_FPN_3x"))

train.output_dir = "output/COCO-Detection/faster_rcnn_R50_from_R101"
