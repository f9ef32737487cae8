"""CanKD: FCOS-R50 from FCOS-R101, which fcos_R101.py trains."""

from ..common.distillation import distill
from .fcos_R50 import dataloader, lr_multiplier, model, optimizer, train
from .fcos_R101 import model as _teacher
from .fcos_R101 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth")

train.output_dir = "output/COCO-Detection/fcos_R50_from_R101"
