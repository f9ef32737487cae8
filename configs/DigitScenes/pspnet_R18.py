"""The teacher. Its trained weights come with cankd."""

from ..common.data.digit_scenes_semantic import dataloader
from ..common.digit_scenes_teacher_train import train
from ..common.models.small_pspnet import small_pspnet
from ..common.schedules import adamw as optimizer
from ..common.schedules import one_cycle as lr_multiplier

model = small_pspnet(width=36, num_blocks=[2, 2, 2, 2])

train.max_iter = 3000
train.output_dir = "output/DigitScenes/pspnet_R18"
