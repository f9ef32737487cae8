"""The student, distilled from the teacher by CanKD."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L

from .faster_rcnn_R10 import dataloader, lr_multiplier, model, optimizer, train
from .faster_rcnn_R18 import model as _teacher

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights="cankd://DigitScenes/faster_rcnn_R18.pth"),
    head=L(CanKDHead)(levels=["p3", "p4", "p5"], in_channels=64),
)

train.output_dir = "output/DigitScenes/faster_rcnn_R10_from_R18"
