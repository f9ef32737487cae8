"""The student alone: the baseline."""

from ..common.models.small_fcos import model
from .retinanet_R10 import dataloader, lr_multiplier, optimizer, train

train.output_dir = "output/DigitScenes/fcos_R10"
