"""The student alone: the baseline."""

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.models.faster_rcnn import model
from ..common.schedules import coco_2x as lr_multiplier
from ..common.schedules import sgd as optimizer

model.backbone.bottom_up.freeze_at = 2

train.output_dir = "output/COCO-Detection/faster_rcnn_R50"
