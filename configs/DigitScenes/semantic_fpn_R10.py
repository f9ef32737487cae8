"""The student alone: the baseline."""

from ..common.data.digit_scenes_semantic import dataloader
from ..common.digit_scenes_train import train
from ..common.models.small_semantic_fpn import model
from ..common.schedules import adamw as optimizer
from ..common.schedules import one_cycle as lr_multiplier

train.output_dir = "output/DigitScenes/semantic_fpn_R10"
