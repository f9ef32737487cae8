"""A teacher: Cascade Mask R-CNN with ResNeXt-101 64x4d, from OpenMMLab's ImageNet weights, 20 epochs."""

from detectron2.model_zoo import get_config

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.models.resnext import imagenet_rgb, resnext101, weights_64x4d
from ..common.schedules import coco_20e as lr_multiplier
from ..common.schedules import coco_20e_iterations
from ..common.schedules import sgd as optimizer
from .faster_rcnn_R50 import model as _faster_rcnn

model = get_config("common/models/cascade_rcnn.py").model
model.backbone.bottom_up = resnext101(64, 4, out_features=["res2", "res3", "res4", "res5"])
model.proposal_generator.anchor_matcher = _faster_rcnn.proposal_generator.anchor_matcher
model.update(imagenet_rgb, input_format="RGB")
dataloader.train.mapper.use_instance_mask = True

train.init_checkpoint = weights_64x4d
train.max_iter = coco_20e_iterations
train.output_dir = "output/COCO-Detection/cascade_mask_rcnn_X101"
