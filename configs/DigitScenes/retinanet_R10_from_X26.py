"""CanKD from a teacher with a ResNeXt, which retinanet_X26.py trains."""

from .retinanet_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train
from .retinanet_X26 import model as _teacher
from .retinanet_X26 import train as _teacher_train

model.teacher.model = _teacher
model.teacher.weights = f"{_teacher_train.output_dir}/model_final.pth"

train.output_dir = "output/DigitScenes/retinanet_R10_from_X26"
