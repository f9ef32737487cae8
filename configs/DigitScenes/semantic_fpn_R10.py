"""The student alone: the baseline."""

from ..common.data.digit_scenes_semantic import dataloader
from ..common.models.small_semantic_fpn import model
from .retinanet_R10 import lr_multiplier, optimizer, train

train.output_dir = "output/DigitScenes/semantic_fpn_R10"
