"""CanKD: RetinaNet-R50 from Detectron2's RetinaNet-R101."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_checkpoint_url, get_config

from .retinanet_R50 import dataloader, lr_multiplier, model, optimizer, train

_teacher = get_config("common/models/retinanet.py").model
_teacher.backbone.bottom_up.stages.depth = 101

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights=get_checkpoint_url("COCO-Detection/retinanet_R_101_FPN_3x")),
    head=L(CanKDHead)(levels=["p3", "p4", "p5"], in_channels=256),
)

train.output_dir = "output/COCO-Detection/retinanet_R50_from_R101"
