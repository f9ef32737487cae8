"""CanKD†: the student's neck and head start from the teacher's weights, but for convolutions of another width."""

from .fcos_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train
from .retinanet_R10_from_R18_inherit import train as _inherit

train.inherit = _inherit.inherit

train.output_dir = "output/DigitScenes/fcos_R10_from_R18_inherit"
