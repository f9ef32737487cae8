"""A teacher: RepPoints with a deformable ResNeXt-101 32x4d, from OpenMMLab's ImageNet weights."""

from ..common.models.resnext import imagenet_rgb, resnext101
from .reppoints_R50 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = resnext101(32, 4, deformable=["res3", "res4", "res5"])
model.update(imagenet_rgb, input_format="RGB")
dataloader.train.mapper.image_format = "RGB"

train.init_checkpoint = "https://download.openmmlab.com/pretrain/third_party/resnext101_32x4d-a5af3160.pth"
train.output_dir = "output/COCO-Detection/reppoints_X101"
