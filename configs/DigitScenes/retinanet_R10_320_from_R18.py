"""The student, distilled by CanKD on images of 320 pixels. Its teacher has learnt from smaller ones."""

from ..common.distillation import distill
from .retinanet_R10_320 import dataloader, lr_multiplier, model, optimizer, train
from .retinanet_R18 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/retinanet_R18.pth")

train.output_dir = "output/DigitScenes/retinanet_R10_320_from_R18"
