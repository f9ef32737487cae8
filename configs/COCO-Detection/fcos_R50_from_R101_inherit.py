"""CanKD†: the student's neck and head start from the teacher's weights."""

from .fcos_R50_from_R101 import dataloader, lr_multiplier, model, optimizer, train
from .retinanet_R50_from_R101_inherit import train as _inherit

train.inherit = _inherit.inherit
train.output_dir = "output/COCO-Detection/fcos_R50_from_R101_inherit"
