"""The student alone: DeepLabV3, ResNet-18 dilated to stride 8."""

from ..common.cityscapes_train import train
from ..common.data.cityscapes import dataloader
from ..common.models.dilated_segmentation import CHANNELS, deeplab_v3, resnet_v1c
from ..common.schedules import cityscapes_poly as lr_multiplier
from ..common.schedules import cityscapes_sgd as optimizer

model = deeplab_v3(resnet_v1c(18), CHANNELS[18], width=128)

train.init_checkpoint = "https://download.openmmlab.com/pretrain/third_party/resnet18_v1c-b5776b93.pth"
train.output_dir = "output/Cityscapes-SemanticSegmentation/deeplab_v3_R18"
