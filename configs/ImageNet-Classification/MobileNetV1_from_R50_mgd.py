"""MGD at the backbone's last stage."""

from ..common.methods import with_method
from .MobileNetV1_from_R50 import dataloader, lr_multiplier, model, optimizer, train

model = with_method(model, train, "mgd")

train.clip_gradients.max_norm = 5.0
train.output_dir = "output/ImageNet-Classification/MobileNetV1_from_R50_mgd"
