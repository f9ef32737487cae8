"""The student alone: semantic FPN, ResNet-50."""

from ..common.cityscapes_train import train
from ..common.data.cityscapes import dataloader
from ..common.models.semantic_fpn import model
from ..common.schedules import cityscapes_poly as lr_multiplier
from ..common.schedules import cityscapes_sgd as optimizer

model.backbone.bottom_up.freeze_at = 2
dataloader.train.mapper.image_format = "BGR"

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.output_dir = "output/Cityscapes-SemanticSegmentation/semantic_fpn_R50"
