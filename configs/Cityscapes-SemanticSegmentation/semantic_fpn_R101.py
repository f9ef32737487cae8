"""A teacher: semantic FPN, ResNet-101."""

from .semantic_fpn_R50 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages.depth = 101

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
train.output_dir = "output/Cityscapes-SemanticSegmentation/semantic_fpn_R101"
