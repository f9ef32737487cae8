"""CanKD from the teacher that reppoints_X26.py trains."""

from ..common.distillation import distill
from .reppoints_R10 import dataloader, lr_multiplier, model, optimizer, train
from .reppoints_X26 import model as _teacher
from .reppoints_X26 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth")

train.output_dir = "output/DigitScenes/reppoints_R10_from_X26"
