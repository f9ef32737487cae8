"""CanKD from the teacher that mask_rcnn_R18.py trains."""

from ..common.distillation import distill
from .mask_rcnn_R10 import dataloader, lr_multiplier, model, optimizer, train
from .mask_rcnn_R18 import model as _teacher
from .mask_rcnn_R18 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth")

train.output_dir = "output/DigitScenes/mask_rcnn_R10_from_R18"
