"""The student, distilled from the teacher by CanKD at the backbone's last stage."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L

from .pspnet_R10 import dataloader, lr_multiplier, model, optimizer, train
from .pspnet_R18 import model as _teacher

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights="cankd://DigitScenes/pspnet_R18.pth"),
    head=L(CanKDHead)(levels=["res5"], in_channels=288),
)

train.output_dir = "output/DigitScenes/pspnet_R10_from_R18"
