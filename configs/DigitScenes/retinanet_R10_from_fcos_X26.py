"""CanKD between architectures, from FCOS with a ResNeXt, which fcos_X26.py trains."""

from .fcos_X26 import model as _teacher
from .fcos_X26 import train as _teacher_train
from .retinanet_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train

model.teacher.model = _teacher
model.teacher.weights = f"{_teacher_train.output_dir}/model_final.pth"

train.output_dir = "output/DigitScenes/retinanet_R10_from_fcos_X26"
