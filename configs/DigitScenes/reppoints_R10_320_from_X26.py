"""The student, distilled by CanKD on images of 320 pixels. Its teacher has learnt from smaller ones."""

from ..common.distillation import distill
from .reppoints_R10_320 import dataloader, lr_multiplier, model, optimizer, train
from .reppoints_X26 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/reppoints_X26.pth")

train.output_dir = "output/DigitScenes/reppoints_R10_320_from_X26"
