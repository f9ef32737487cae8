"""The student alone, on images of 320 pixels."""

from ..common.data.digit_scenes_320 import dataloader
from .retinanet_R10 import lr_multiplier, model, optimizer, train

train.reference_batch_size = 2
train.output_dir = "output/DigitScenes/retinanet_R10_320"
