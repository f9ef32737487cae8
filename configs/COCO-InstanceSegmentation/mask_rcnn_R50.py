"""The student alone: the baseline."""

from cankd.modeling.meta_arch import MaxIoUMatcher
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.models.torchvision_resnet import with_torchvision_resnet
from ..common.schedules import coco_2x as lr_multiplier
from ..common.schedules import sgd as optimizer

model = with_torchvision_resnet(get_config("common/models/mask_rcnn_fpn.py").model)
model.proposal_generator.anchor_matcher = L(MaxIoUMatcher)(thresholds=[0.3, 0.7], labels=[0, -1, 1], min_iou=0.3)
dataloader.train.mapper.use_instance_mask = True

train.output_dir = "output/COCO-InstanceSegmentation/mask_rcnn_R50"
