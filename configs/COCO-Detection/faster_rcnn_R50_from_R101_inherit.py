"""CanKD†: the student's neck and box head start from the teacher's weights, its RPN does not, as published."""

from .faster_rcnn_R50_from_R101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = ["backbone.fpn_*", "roi_heads.box_*"]
train.output_dir = "output/COCO-Detection/faster_rcnn_R50_from_R101_inherit"
