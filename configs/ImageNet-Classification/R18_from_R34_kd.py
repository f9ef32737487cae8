"""KD on the class logits."""

from ..common.methods import with_method
from .R18_from_R34 import dataloader, lr_multiplier, model, optimizer, train

model = with_method(model, train, "kd")

train.output_dir = "output/ImageNet-Classification/R18_from_R34_kd"
