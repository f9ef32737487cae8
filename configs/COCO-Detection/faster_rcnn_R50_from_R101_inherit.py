"""CanKD†: the student's neck and box head start from the teacher's weights, its RPN does not."""

from ..common.inheritance import faster_rcnn
from .faster_rcnn_R50_from_R101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = faster_rcnn
train.output_dir = "output/COCO-Detection/faster_rcnn_R50_from_R101_inherit"
