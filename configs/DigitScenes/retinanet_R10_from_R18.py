"""The student, distilled from the teacher by CanKD."""

from ..common.distillation import distill
from .retinanet_R10 import dataloader, lr_multiplier, model, optimizer, train
from .retinanet_R18 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/retinanet_R18.pth")

train.output_dir = "output/DigitScenes/retinanet_R10_from_R18"
