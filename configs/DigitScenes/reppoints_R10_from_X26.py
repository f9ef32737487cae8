"""The student, distilled from the teacher by CanKD."""

from ..common.distillation import distill
from .reppoints_R10 import dataloader, lr_multiplier, model, optimizer, train
from .reppoints_X26 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/reppoints_X26.pth")

train.output_dir = "output/DigitScenes/reppoints_R10_from_X26"
