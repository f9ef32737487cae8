"""The student, distilled from the teacher by CanKD."""

from ..common.distillation import distill
from .faster_rcnn_R10 import dataloader, lr_multiplier, model, optimizer, train
from .faster_rcnn_R18 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/faster_rcnn_R18.pth")

train.output_dir = "output/DigitScenes/faster_rcnn_R10_from_R18"
