"""A teacher: Cascade Mask R-CNN with ResNeXt-101 32x8d, from Detectron2's ImageNet weights."""

from detectron2.model_zoo import get_config

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.models.resnext import resnext101
from ..common.schedules import coco_2x as lr_multiplier
from ..common.schedules import sgd as optimizer

model = get_config("common/models/cascade_rcnn.py").model
model.backbone.bottom_up = resnext101(32, 8, out_features=["res2", "res3", "res4", "res5"])
model.pixel_std = [57.375, 57.12, 58.395]
dataloader.train.mapper.use_instance_mask = True

train.init_checkpoint = "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl"
train.output_dir = "output/COCO-Detection/cascade_mask_rcnn_X101"
