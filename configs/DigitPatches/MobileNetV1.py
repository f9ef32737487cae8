"""The student alone: MobileNetV1, a quarter as wide."""

from ..common.models.classifier import classifier, small_mobilenet_v1
from .R18 import dataloader, lr_multiplier, optimizer, train

model = classifier(small_mobilenet_v1(width_mult=0.25), num_classes=10)

train.output_dir = "output/DigitPatches/MobileNetV1"
