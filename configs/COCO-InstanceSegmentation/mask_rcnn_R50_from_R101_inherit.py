"""CanKD†: the student's neck, box head and mask head start from the teacher's weights, its RPN does not."""

from ..common.inheritance import mask_rcnn
from .mask_rcnn_R50_from_R101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = mask_rcnn
train.output_dir = "output/COCO-InstanceSegmentation/mask_rcnn_R50_from_R101_inherit"
