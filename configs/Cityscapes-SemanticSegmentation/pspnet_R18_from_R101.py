"""CanKD: PSPNet-R18 from PSPNet-R101, which pspnet_R101.py trains."""

from ..common.distillation import distill
from .pspnet_R18 import dataloader, lr_multiplier, model, optimizer, train
from .pspnet_R101 import model as _teacher
from .pspnet_R101 import train as _teacher_train

model = distill(model, _teacher, f"{_teacher_train.output_dir}/model_final.pth", levels=["res5"])
model.input_format = "RGB"
model.teacher.input_format = "RGB"

train.output_dir = "output/Cityscapes-SemanticSegmentation/pspnet_R18_from_R101"
