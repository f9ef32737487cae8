"""A teacher: RepPoints with a deformable ResNeXt-101 32x4d, from OpenMMLab's ImageNet weights."""

from ..common.models.resnext import resnext101, weights_32x4d
from .reppoints_R50 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = resnext101(32, 4, deformable=["res3", "res4", "res5"])
optimizer.lr = 0.0025

train.init_checkpoint = weights_32x4d
train.output_dir = "output/COCO-Detection/reppoints_X101"
