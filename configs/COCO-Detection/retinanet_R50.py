"""The student alone: the baseline."""

from cankd.modeling.meta_arch import MaxIoUMatcher
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.models.torchvision_resnet import with_torchvision_resnet
from ..common.schedules import coco_2x as lr_multiplier
from ..common.schedules import sgd as optimizer

model = with_torchvision_resnet(get_config("common/models/retinanet.py").model)
model.anchor_matcher = L(MaxIoUMatcher)(thresholds=[0.4, 0.5], labels=[0, -1, 1])

train.output_dir = "output/COCO-Detection/retinanet_R50"
