"""The student alone, on images of 320 pixels."""

from ..common.data.digit_scenes_320 import dataloader
from .reppoints_R10 import lr_multiplier, model, optimizer, train

train.reference_batch_size = 2
train.output_dir = "output/DigitScenes/reppoints_R10_320"
