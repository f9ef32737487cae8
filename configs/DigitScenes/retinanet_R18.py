"""The teacher. Its trained weights come with cankd."""

from ..common.models.small_fpn import small_fpn
from .retinanet_R10 import dataloader, lr_multiplier, model, optimizer, train

model.backbone = small_fpn(width=36, num_blocks=[2, 2, 2, 2])

train.output_dir = "output/DigitScenes/retinanet_R18"
train.max_iter = 6000
train.checkpointer.period = 1000
