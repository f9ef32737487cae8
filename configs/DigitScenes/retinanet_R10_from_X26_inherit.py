"""CanKD†: the student's neck and head start from the teacher's weights, but for convolutions of another width."""

from .retinanet_R10_from_R18_inherit import train as _inherit
from .retinanet_R10_from_X26 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = _inherit.inherit

train.output_dir = "output/DigitScenes/retinanet_R10_from_X26_inherit"
