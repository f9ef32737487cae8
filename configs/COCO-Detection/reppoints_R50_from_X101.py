"""CanKD: RepPoints-R50 from RepPoints-X101 (32x4d, deformable), which reppoints_X101.py trains."""

from ..common.distillation import distill
from .reppoints_R50 import dataloader, lr_multiplier, model, optimizer, train
from .reppoints_X101 import model as _teacher
from .reppoints_X101 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth")

train.output_dir = "output/COCO-Detection/reppoints_R50_from_X101"
