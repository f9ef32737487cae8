"""CanKD from the teacher that reppoints_X26.py trains."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L

from .reppoints_R10 import dataloader, lr_multiplier, model, optimizer, train
from .reppoints_X26 import model as _teacher
from .reppoints_X26 import train as _teacher_train

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights=f"{_teacher_train.output_dir}/model_final.pth"),
    head=L(CanKDHead)(levels=["p3", "p4", "p5"], in_channels=64),
)

train.output_dir = "output/DigitScenes/reppoints_R10_from_X26"
