"""CanKD between architectures: DeepLabV3-R18 from PSPNet-R101, which pspnet_R101.py trains."""

from .deeplab_v3_R18_from_R101 import dataloader, lr_multiplier, model, optimizer, train
from .pspnet_R101 import model as _teacher
from .pspnet_R101 import train as _teacher_train

model.teacher.model = _teacher
model.teacher.weights = f"{_teacher_train.output_dir}/model_final.pth"
model.head.weight = 10.0

train.output_dir = "output/Cityscapes-SemanticSegmentation/deeplab_v3_R18_from_pspnet_R101"
