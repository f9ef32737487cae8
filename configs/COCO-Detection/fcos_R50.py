"""The student alone: the baseline."""

from detectron2.model_zoo import get_config

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.schedules import coco_2x as lr_multiplier
from ..common.schedules import sgd as optimizer

model = get_config("common/models/fcos.py").model
model.backbone.bottom_up.freeze_at = 2

train.output_dir = "output/COCO-Detection/fcos_R50"
