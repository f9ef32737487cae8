"""A teacher: FCOS with ResNeXt-101 64x4d, from OpenMMLab's ImageNet weights, trained at two scales."""

from ..common.models.resnext import imagenet_rgb, resnext101, weights_64x4d
from .fcos_R101 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = resnext101(64, 4)
model.update(imagenet_rgb)
dataloader.train.mapper.image_format = "RGB"

train.init_checkpoint = weights_64x4d
train.output_dir = "output/COCO-Detection/fcos_X101"
