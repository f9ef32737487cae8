"""CanKD: semantic FPN-R50 from semantic FPN-R101, which semantic_fpn_R101.py trains."""

from ..common.distillation import distill
from .semantic_fpn_R50 import dataloader, lr_multiplier, model, optimizer, train
from .semantic_fpn_R101 import model as _teacher
from .semantic_fpn_R101 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth")
model.input_format = "BGR"
model.teacher.input_format = "BGR"

train.output_dir = "output/Cityscapes-SemanticSegmentation/semantic_fpn_R50_from_R101"
