"""A teacher: DeepLabV3, ResNet-101 dilated to stride 8."""

from ..common.cityscapes_train import train
from ..common.data.cityscapes import dataloader
from ..common.models.dilated_segmentation import CHANNELS, deeplab_v3, resnet_v1c
from ..common.schedules import cityscapes_poly as lr_multiplier
from ..common.schedules import cityscapes_sgd as optimizer

model = deeplab_v3(resnet_v1c(101), CHANNELS[101], width=512)

train.init_checkpoint = "https://download.openmmlab.com/pretrain/third_party/resnet101_v1c-e67eebb6.pth"
train.output_dir = "output/Cityscapes-SemanticSegmentation/deeplab_v3_R101"
