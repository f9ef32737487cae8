"""CanKD: RepPoints-R50 from RepPoints-X101 (32x4d, deformable), which reppoints_X101.py trains."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L

from .reppoints_R50 import dataloader, lr_multiplier, model, optimizer, train
from .reppoints_X101 import model as _teacher
from .reppoints_X101 import train as _teacher_train

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights=f"{_teacher_train.output_dir}/model_final.pth"),
    head=L(CanKDHead)(levels=["p3", "p4", "p5"], in_channels=256),
)

train.output_dir = "output/COCO-Detection/reppoints_R50_from_X101"
