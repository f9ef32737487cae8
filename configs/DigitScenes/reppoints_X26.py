"""The teacher with a ResNeXt, the later half of it deformable. Its trained weights come with cankd."""

from ..common.digit_scenes_teacher_train import train
from ..common.models.resnext import small_resnext
from .reppoints_R10 import dataloader, lr_multiplier, model, optimizer

model.backbone.bottom_up = small_resnext(deformable=["res4", "res5"])

train.output_dir = "output/DigitScenes/reppoints_X26"
