"""The student alone: the baseline."""

from ..common.coco_train import train
from ..common.data.coco import dataloader
from ..common.models.reppoints import model
from ..common.models.torchvision_resnet import with_torchvision_resnet
from ..common.schedules import coco_2x as lr_multiplier
from ..common.schedules import sgd as optimizer

model = with_torchvision_resnet(model)

train.output_dir = "output/COCO-Detection/reppoints_R50"
