"""The student, distilled from the teacher by CanKD."""

from ..common.distillation import distill
from .semantic_fpn_R10 import dataloader, lr_multiplier, model, optimizer, train
from .semantic_fpn_R18 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/semantic_fpn_R18.pth")

train.output_dir = "output/DigitScenes/semantic_fpn_R10_from_R18"
