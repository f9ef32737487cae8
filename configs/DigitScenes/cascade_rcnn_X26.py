"""A teacher: Cascade R-CNN with a ResNeXt."""

from ..common.data.digit_scenes import dataloader
from ..common.digit_scenes_teacher_train import train
from ..common.models.resnext import small_resnext
from ..common.models.small_cascade_rcnn import model
from ..common.schedules import adamw as optimizer
from ..common.schedules import one_cycle as lr_multiplier

model.backbone.bottom_up = small_resnext()

train.output_dir = "output/DigitScenes/cascade_rcnn_X26"
