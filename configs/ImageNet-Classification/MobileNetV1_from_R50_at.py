"""AT at all four stages."""

from ..common.methods import with_method
from .MobileNetV1_from_R50 import dataloader, lr_multiplier, model, optimizer, train

model = with_method(model, train, "at")

train.output_dir = "output/ImageNet-Classification/MobileNetV1_from_R50_at"
