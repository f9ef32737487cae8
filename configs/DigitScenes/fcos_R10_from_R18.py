"""CanKD from the teacher that fcos_R18.py trains."""

from ..common.distillation import distill
from .fcos_R10 import dataloader, lr_multiplier, model, optimizer, train
from .fcos_R18 import model as _teacher
from .fcos_R18 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth")

train.output_dir = "output/DigitScenes/fcos_R10_from_R18"
