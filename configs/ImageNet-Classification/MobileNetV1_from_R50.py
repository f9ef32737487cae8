"""CanKD at the backbone's last stage."""

from ..common.distillation import distill
from .MobileNetV1 import dataloader, lr_multiplier, model, optimizer, train
from .R50 import model as _teacher
from .R50 import train as _teacher_train

model = distill(model, _teacher, _teacher_train.init_checkpoint, levels=["res5"])

train.output_dir = "output/ImageNet-Classification/MobileNetV1_from_R50"
