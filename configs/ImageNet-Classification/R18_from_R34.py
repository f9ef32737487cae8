"""CanKD at the backbone's last stage."""

from ..common.distillation import distill
from .R18 import dataloader, lr_multiplier, model, optimizer, train
from .R34 import model as _teacher
from .R34 import train as _teacher_train

model = distill(model, _teacher, _teacher_train.init_checkpoint, levels=["res5"])

train.output_dir = "output/ImageNet-Classification/R18_from_R34"
