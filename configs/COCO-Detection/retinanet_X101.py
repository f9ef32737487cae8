"""A teacher: RetinaNet with ResNeXt-101 64x4d, from OpenMMLab's ImageNet weights, 12 epochs."""

from ..common.models.resnext import resnext101, weights_64x4d
from ..common.schedules import coco_1x as lr_multiplier
from ..common.schedules import coco_1x_iterations
from .retinanet_R50 import dataloader, model, optimizer, train

model.backbone.bottom_up = resnext101(64, 4)
optimizer.lr = 0.0025

train.init_checkpoint = weights_64x4d
train.max_iter = coco_1x_iterations
train.output_dir = "output/COCO-Detection/retinanet_X101"
