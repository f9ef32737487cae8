"""CanKD†: the student's neck and head start from the teacher's weights."""

from ..common.inheritance import dense
from .retinanet_R50_from_R101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = dense
train.output_dir = "output/COCO-Detection/retinanet_R50_from_R101_inherit"
