"""CanKD†: the student's neck and head start from the teacher's weights."""

from .retinanet_R50_from_R101_inherit import train as _inherit
from .retinanet_R50_from_X101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = _inherit.inherit
train.output_dir = "output/COCO-Detection/retinanet_R50_from_X101_inherit"
