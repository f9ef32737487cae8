"""A teacher with a ResNeXt."""

from ..common.digit_scenes_teacher_train import train
from ..common.models.resnext import small_resnext
from .retinanet_R10 import dataloader, lr_multiplier, model, optimizer

model.backbone.bottom_up = small_resnext()

train.output_dir = "output/DigitScenes/retinanet_X26"
