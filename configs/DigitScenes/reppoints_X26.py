"""A teacher with a ResNeXt, the later half of it deformable."""

from ..common.models.resnext import small_resnext
from .reppoints_R10 import dataloader, lr_multiplier, model, optimizer
from .retinanet_R18 import train

model.backbone.bottom_up = small_resnext(deformable=["res4", "res5"])

train.output_dir = "output/DigitScenes/reppoints_X26"
