"""The student alone: the baseline."""

from ..common.models.reppoints import model
from .retinanet_R50 import dataloader, lr_multiplier, optimizer, train

model.backbone.bottom_up.freeze_at = 2

train.output_dir = "output/COCO-Detection/reppoints_R50"
