"""KD on the class logits."""

from ..common.methods import with_method
from .MobileNetV1_from_R50 import dataloader, lr_multiplier, model, optimizer, train

model = with_method(model, train, "kd")

train.output_dir = "output/ImageNet-Classification/MobileNetV1_from_R50_kd"
