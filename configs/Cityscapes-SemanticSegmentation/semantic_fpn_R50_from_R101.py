"""CanKD: semantic FPN-R50 from semantic FPN-R101, which semantic_fpn_R101.py trains."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L

from .semantic_fpn_R50 import dataloader, lr_multiplier, model, optimizer, train
from .semantic_fpn_R101 import model as _teacher
from .semantic_fpn_R101 import train as _teacher_train

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights=f"{_teacher_train.output_dir}/model_final.pth", input_format="BGR"),
    head=L(CanKDHead)(levels=["p3", "p4", "p5"], in_channels=256),
    input_format="BGR",
)

train.output_dir = "output/Cityscapes-SemanticSegmentation/semantic_fpn_R50_from_R101"
