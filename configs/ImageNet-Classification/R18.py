"""The student alone: ResNet-18."""

from ..common.data.imagenet import dataloader
from ..common.imagenet_train import train
from ..common.models.classifier import classifier, resnet
from ..common.schedules import imagenet_sgd as optimizer
from ..common.schedules import imagenet_steps as lr_multiplier

model = classifier(resnet(18), num_classes=1000)

train.output_dir = "output/ImageNet-Classification/R18"
