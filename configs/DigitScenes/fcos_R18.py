"""A teacher."""

from ..common.digit_scenes_teacher_train import train
from ..common.models.small_fpn import small_fpn
from .fcos_R10 import dataloader, lr_multiplier, model, optimizer

model.backbone = small_fpn(width=36, num_blocks=[2, 2, 2, 2])

train.output_dir = "output/DigitScenes/fcos_R18"
