"""The teacher. Its trained weights come with cankd."""

from ..common.digit_scenes_teacher_train import train
from ..common.models.small_fpn import small_fpn
from .mask_rcnn_R10 import dataloader, lr_multiplier, model, optimizer

model.backbone = small_fpn(width=20, num_blocks=[2, 2, 2, 2])

train.max_iter = 4000
train.output_dir = "output/DigitScenes/mask_rcnn_R18"
