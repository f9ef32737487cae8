"""CanKD at the backbone's last stage, from the teacher that R34.py trains; it comes with the repository."""

from ..common.distillation import distill
from .R18 import dataloader, lr_multiplier, model, optimizer, train
from .R34 import model as _teacher

model = distill(model, _teacher, "cankd://DigitPatches/R34.pth", levels=["res5"])

train.output_dir = "output/DigitPatches/R18_from_R34"
