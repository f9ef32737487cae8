"""The student alone, on a backbone of timm's."""

from cankd.modeling.backbone import TimmBackbone
from detectron2.config import LazyCall as L

from .retinanet_R10 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = L(TimmBackbone)(name="mobilenetv1_100", out_features=["res3", "res4", "res5"])

train.output_dir = "output/DigitScenes/retinanet_MobileNetV1"
