"""CanKD†: the student's neck and head start from the teacher's weights, but for convolutions of another width."""

from ..common.inheritance import small_dense
from .retinanet_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = small_dense
train.output_dir = "output/DigitScenes/retinanet_R10_from_R18_inherit"
