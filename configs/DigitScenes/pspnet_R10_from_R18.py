"""The student, distilled from the teacher by CanKD at the backbone's last stage."""

from ..common.distillation import distill
from .pspnet_R10 import dataloader, lr_multiplier, model, optimizer, train
from .pspnet_R18 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/pspnet_R18.pth", levels=["res5"])

train.output_dir = "output/DigitScenes/pspnet_R10_from_R18"
