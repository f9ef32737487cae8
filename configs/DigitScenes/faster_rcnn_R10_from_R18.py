"""The student, distilled from the teacher by CanKD."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L

from .faster_rcnn_R10 import dataloader, lr_multiplier, model, optimizer, train
from .faster_rcnn_R18 import model as _teacher

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights="cankd://DigitScenes/faster_rcnn_R18.pth"),
    # The paper's weight, 5, costs this student 11 AP: Faster R-CNN's own gradient at P4 and P5 is hundreds of times
    # weaker than the distillation's then (tools/check_distillation.py shows it).
    head=L(CanKDHead)(levels=["p3", "p4", "p5"], in_channels=64, weight=0.1),
)

train.output_dir = "output/DigitScenes/faster_rcnn_R10_from_R18"
