"""CanKD: DeepLabV3-MobileNetV2 from DeepLabV3-R101, which deeplab_v3_R101.py trains."""

from .deeplab_v3_MobileNetV2 import dataloader, lr_multiplier
from .deeplab_v3_MobileNetV2 import model as _student
from .deeplab_v3_MobileNetV2 import optimizer, train
from .deeplab_v3_R18_from_R101 import model

model.student = _student

train.output_dir = "output/Cityscapes-SemanticSegmentation/deeplab_v3_MobileNetV2_from_R101"
