"""The teacher: ResNet-34, about a quarter as wide."""

from ..common.models.classifier import classifier, small_resnet
from .R18 import dataloader, lr_multiplier, optimizer, train

model = classifier(small_resnet(width=18, num_blocks=[3, 4, 6, 3]), num_classes=10)

train.max_iter = 3000
train.output_dir = "output/DigitPatches/R34"
