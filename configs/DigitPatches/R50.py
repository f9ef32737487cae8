"""The teacher: ResNet-50, a quarter as wide."""

from ..common.models.classifier import classifier, small_resnet50
from .R34 import dataloader, lr_multiplier, optimizer, train

model = classifier(small_resnet50(width=16), num_classes=10)

train.output_dir = "output/DigitPatches/R50"
