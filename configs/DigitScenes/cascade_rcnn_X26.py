"""A teacher: Cascade R-CNN with a ResNeXt."""

from ..common.models.resnext import small_resnext
from ..common.models.small_cascade_rcnn import model
from .retinanet_R18 import dataloader, lr_multiplier, optimizer, train

model.backbone.bottom_up = small_resnext()

train.output_dir = "output/DigitScenes/cascade_rcnn_X26"
