"""The student alone: MobileNetV1."""

from ..common.models.classifier import classifier, mobilenet_v1
from .R18 import dataloader, lr_multiplier, optimizer, train

model = classifier(mobilenet_v1(), num_classes=1000)

train.output_dir = "output/ImageNet-Classification/MobileNetV1"
