"""A teacher."""

from ..common.models.small_fcos import model
from ..common.models.small_fpn import small_fpn
from .retinanet_R18 import dataloader, lr_multiplier, optimizer, train

model.backbone = small_fpn(width=36, num_blocks=[2, 2, 2, 2])

train.output_dir = "output/DigitScenes/fcos_R18"
