"""The student, distilled by CanKD on the 150 labelled images alone. Its teacher has learnt from all 3,000 labels."""

from ..common.distillation import distill
from .retinanet_R10_150 import dataloader, lr_multiplier, model, optimizer, train
from .retinanet_R18 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/retinanet_R18.pth")

train.output_dir = "output/DigitScenes/retinanet_R10_150_from_R18"
