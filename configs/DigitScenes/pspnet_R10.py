"""The student alone: the baseline."""

from ..common.models.small_pspnet import small_pspnet
from .semantic_fpn_R10 import dataloader, lr_multiplier, optimizer, train

model = small_pspnet(width=16, num_blocks=[1, 1, 1, 1])

train.output_dir = "output/DigitScenes/pspnet_R10"
