"""The student alone: ResNet-18, an eighth as wide."""

from ..common.data.digit_patches import dataloader
from ..common.digit_patches_train import train
from ..common.models.classifier import classifier, small_resnet
from ..common.schedules import adamw as optimizer
from ..common.schedules import one_cycle as lr_multiplier

model = classifier(small_resnet(width=8, num_blocks=[2, 2, 2, 2]), num_classes=10)

train.output_dir = "output/DigitPatches/R18"
