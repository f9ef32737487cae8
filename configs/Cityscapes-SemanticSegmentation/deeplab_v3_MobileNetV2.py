"""The student alone: DeepLabV3, MobileNetV2 dilated to stride 8."""

from ..common.cityscapes_train import train
from ..common.data.cityscapes import dataloader
from ..common.models.dilated_segmentation import CHANNELS, deeplab_v3, mobilenet_v2
from ..common.schedules import cityscapes_poly as lr_multiplier
from ..common.schedules import cityscapes_sgd as optimizer

model = deeplab_v3(mobilenet_v2(), CHANNELS["mobilenet_v2"], width=512)

train.init_checkpoint = "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth?matching_heuristics=True"
train.output_dir = "output/Cityscapes-SemanticSegmentation/deeplab_v3_MobileNetV2"
