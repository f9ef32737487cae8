"""The teacher. Its trained weights come with cankd."""

from ..common.digit_scenes_teacher_train import train
from ..common.models.small_fpn import small_fpn
from .semantic_fpn_R10 import dataloader, lr_multiplier, model, optimizer

model.backbone = small_fpn(width=36, num_blocks=[2, 2, 2, 2])

train.max_iter = 3000
train.output_dir = "output/DigitScenes/semantic_fpn_R18"
