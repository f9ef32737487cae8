"""CanKD at the backbone's last stage, from the teacher that R50.py trains."""

from ..common.distillation import distill
from .MobileNetV1 import dataloader, lr_multiplier, model, optimizer, train
from .R50 import model as _teacher
from .R50 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth", levels=["res5"])

train.output_dir = "output/DigitPatches/MobileNetV1_from_R50"
