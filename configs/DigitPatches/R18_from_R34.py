"""CanKD at the backbone's last stage, from the teacher that R34.py trains."""

from ..common.distillation import distill
from .R18 import dataloader, lr_multiplier, model, optimizer, train
from .R34 import model as _teacher
from .R34 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth", levels=["res5"])

train.output_dir = "output/DigitPatches/R18_from_R34"
