"""CanKD from the teacher that mask_rcnn_R18.py trains; it comes with cankd."""

from ..common.distillation import distill
from .mask_rcnn_R10 import dataloader, lr_multiplier, model, optimizer, train
from .mask_rcnn_R18 import model as _teacher

model = distill(model, _teacher, "cankd://DigitScenes/mask_rcnn_R18.pth")

train.output_dir = "output/DigitScenes/mask_rcnn_R10_from_R18"
