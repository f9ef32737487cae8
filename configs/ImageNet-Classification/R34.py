"""The teacher, ResNet-34 with torchvision's weights: to be evaluated."""

from ..common.models.classifier import classifier, resnet
from .R18 import dataloader, lr_multiplier, optimizer, train

model = classifier(resnet(34), num_classes=1000)

train.init_checkpoint = "https://download.pytorch.org/models/resnet34-b627a593.pth"
train.output_dir = "output/ImageNet-Classification/R34"
