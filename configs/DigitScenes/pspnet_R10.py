"""The student alone: the baseline."""

from ..common.data.digit_scenes_semantic import dataloader
from ..common.digit_scenes_train import train
from ..common.models.small_pspnet import small_pspnet
from ..common.schedules import adamw as optimizer
from ..common.schedules import one_cycle as lr_multiplier

model = small_pspnet(width=16, num_blocks=[1, 1, 1, 1])

train.output_dir = "output/DigitScenes/pspnet_R10"
