"""CanKD†: the student's neck and head start from the teacher's weights, but for convolutions of another width."""

from ..common.inheritance import small_semantic_fpn
from .semantic_fpn_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = small_semantic_fpn
train.output_dir = "output/DigitScenes/semantic_fpn_R10_from_R18_inherit"
