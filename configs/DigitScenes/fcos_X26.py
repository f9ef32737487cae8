"""A teacher with a ResNeXt."""

from ..common.models.resnext import small_resnext
from .fcos_R18 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = small_resnext()

train.output_dir = "output/DigitScenes/fcos_X26"
