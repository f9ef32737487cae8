"""A teacher: FCOS with ResNet-101, from Detectron2's ImageNet weights, trained at two scales."""

from .fcos_R50 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages.depth = 101
dataloader.train.mapper.augmentations[0].short_edge_length = [640, 800]
optimizer.lr = 0.0025

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
train.output_dir = "output/COCO-Detection/fcos_R101"
