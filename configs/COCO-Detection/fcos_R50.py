"""The student alone: the baseline. Like the published one, it starts from MSRA's weights and reads BGR."""

from cankd.modeling.meta_arch import ScaledFCOSHead
from detectron2.model_zoo import get_config

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.schedules import coco_2x as lr_multiplier
from ..common.schedules import sgd as optimizer

model = get_config("common/models/fcos.py").model
model.backbone.bottom_up.freeze_at = 2
model.head._target_ = ScaledFCOSHead
model.test_score_thresh = 0.05
dataloader.train.mapper.image_format = "BGR"

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.output_dir = "output/COCO-Detection/fcos_R50"
