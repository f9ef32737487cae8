"""The teacher. Its trained weights come with cankd."""

from ..common.models.small_pspnet import small_pspnet
from .semantic_fpn_R18 import dataloader, lr_multiplier, optimizer, train

model = small_pspnet(width=36, num_blocks=[2, 2, 2, 2])

train.output_dir = "output/DigitScenes/pspnet_R18"
