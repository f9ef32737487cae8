"""CanKD: Faster R-CNN-R50 from Detectron2's Faster R-CNN-R101."""

from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_checkpoint_url

from ..common.models.faster_rcnn import model as _teacher
from .faster_rcnn_R50 import dataloader, lr_multiplier, model, optimizer, train

_teacher.backbone.bottom_up.stages.depth = 101

model = L(Distiller)(
    student=model,
    teacher=L(Teacher)(model=_teacher, weights=get_checkpoint_url("COCO-Detection/faster_rcnn_R_101_FPN_3x")),
    head=L(CanKDHead)(levels=["p3", "p4", "p5"], in_channels=256),
)

train.output_dir = "output/COCO-Detection/faster_rcnn_R50_from_R101"
