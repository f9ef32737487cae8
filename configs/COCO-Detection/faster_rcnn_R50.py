"""The student alone: the baseline."""

from cankd.modeling.meta_arch import MaxIoUMatcher
from detectron2.config import LazyCall as L

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.models.faster_rcnn import model
from ..common.models.torchvision_resnet import with_torchvision_resnet
from ..common.schedules import coco_2x as lr_multiplier
from ..common.schedules import sgd as optimizer

model = with_torchvision_resnet(model)
model.proposal_generator.anchor_matcher = L(MaxIoUMatcher)(thresholds=[0.3, 0.7], labels=[0, -1, 1], min_iou=0.3)

train.output_dir = "output/COCO-Detection/faster_rcnn_R50"
