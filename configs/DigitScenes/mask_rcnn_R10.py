"""The student alone: the baseline."""

from ..common.data.digit_scenes_masks import dataloader
from ..common.digit_scenes_train import train
from ..common.models.small_mask_rcnn import model
from ..common.schedules import adamw as optimizer
from ..common.schedules import one_cycle as lr_multiplier

train.output_dir = "output/DigitScenes/mask_rcnn_R10"
