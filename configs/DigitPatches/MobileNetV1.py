"""The student alone: MobileNetV1, a quarter as wide. It needs SGD at a high rate and whole images: see the README."""

from ..common.models.classifier import classifier, small_mobilenet_v1
from ..common.schedules import imagenet_sgd as optimizer
from .R18 import dataloader, lr_multiplier, train

model = classifier(small_mobilenet_v1(width_mult=0.25), num_classes=10)

dataloader.train.mapper.augmentations = []
optimizer.lr = 0.05

train.max_iter = 1500
train.output_dir = "output/DigitPatches/MobileNetV1"
