"""The student alone: the baseline."""

from detectron2.model_zoo import get_config

from .retinanet_R50 import dataloader, lr_multiplier, optimizer, train

model = get_config("common/models/fcos.py").model
model.backbone.bottom_up.freeze_at = 2

train.output_dir = "output/COCO-Detection/fcos_R50"
