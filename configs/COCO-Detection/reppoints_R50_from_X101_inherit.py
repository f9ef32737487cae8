"""CanKD†: the student's neck and head start from the teacher's weights."""

from ..common.inheritance import reppoints
from .reppoints_R50_from_X101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = reppoints
train.output_dir = "output/COCO-Detection/reppoints_R50_from_X101_inherit"
