"""A teacher: RetinaNet with ResNeXt-101 64x4d, from torchvision's ImageNet weights."""

from torchvision.models import ResNeXt101_64X4D_Weights

from ..common.models.resnext import imagenet_rgb, resnext101
from .retinanet_R50 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = resnext101(64, 4)
model.update(imagenet_rgb, input_format="RGB")
dataloader.train.mapper.image_format = "RGB"

train.init_checkpoint = ResNeXt101_64X4D_Weights.IMAGENET1K_V1.url
train.output_dir = "output/COCO-Detection/retinanet_X101"
