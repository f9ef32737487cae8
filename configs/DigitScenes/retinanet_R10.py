"""The student alone: the baseline."""

from ..common.data.digit_scenes import dataloader
from ..common.models.small_retinanet import model
from ..common.schedules import adamw as optimizer
from ..common.schedules import one_cycle as lr_multiplier
from ..common.train import train

train.output_dir = "output/DigitScenes/retinanet_R10"
train.reference_batch_size = 8
train.max_iter = 1000
train.checkpointer = dict(period=100, max_to_keep=2)
train.eval_period = 0
train.clip_gradients.max_norm = 10.0
