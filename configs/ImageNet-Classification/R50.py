"""The teacher, ResNet-50 with torchvision's weights: to be evaluated."""

from ..common.models.classifier import classifier, resnet
from .R18 import dataloader, lr_multiplier, optimizer, train

model = classifier(resnet(50), num_classes=1000)

train.init_checkpoint = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
train.output_dir = "output/ImageNet-Classification/R50"
