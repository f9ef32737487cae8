"""CanKD: a student on a backbone of timm's."""

from .retinanet_MobileNetV1 import model as _student
from .retinanet_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train

model.student = _student

train.output_dir = "output/DigitScenes/retinanet_MobileNetV1_from_R18"
