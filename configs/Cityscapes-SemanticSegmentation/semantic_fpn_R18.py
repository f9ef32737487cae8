"""The student alone: semantic FPN, ResNet-18, from torchvision's ImageNet weights."""

from torchvision.models import ResNet18_Weights

from ..common.models.resnext import imagenet_rgb
from .semantic_fpn_R50 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stages.depth = 18
model.backbone.bottom_up.stages.pop("stride_in_1x1")
model.update(imagenet_rgb)
dataloader.train.mapper.image_format = "RGB"

train.init_checkpoint = ResNet18_Weights.IMAGENET1K_V1.url
train.output_dir = "output/Cityscapes-SemanticSegmentation/semantic_fpn_R18"
