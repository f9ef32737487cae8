"""CanKD†: the student's neck and head start from the teacher's weights."""

from .reppoints_R50_from_X101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = ["backbone.fpn_*", "backbone.top_block.*", "head.*", "points_to_boxes.*"]
train.output_dir = "output/COCO-Detection/reppoints_R50_from_X101_inherit"
