"""CanKD at the backbone's last stage, from the teacher that R50.py trains; it comes with the repository."""

from ..common.distillation import distill
from .MobileNetV1 import dataloader, lr_multiplier, model, optimizer, train
from .R50 import model as _teacher

model = distill(model, _teacher, "cankd://DigitPatches/R50.pth", levels=["res5"])

train.output_dir = "output/DigitPatches/MobileNetV1_from_R50"
