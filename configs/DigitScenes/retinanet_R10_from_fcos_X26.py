"""The student, distilled by CanKD from a teacher of another architecture."""

from ..common.distillation import distill
from .fcos_X26 import model as _teacher
from .retinanet_R10 import dataloader, lr_multiplier, model, optimizer, train

model = distill(model, _teacher, "cankd://DigitScenes/fcos_X26.pth")

train.output_dir = "output/DigitScenes/retinanet_R10_from_fcos_X26"
