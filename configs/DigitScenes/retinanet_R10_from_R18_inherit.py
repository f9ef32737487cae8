"""CanKD†: the student's neck and head start from the teacher's weights. Its lateral convolutions, of another width, do not."""

from .retinanet_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = ["backbone.fpn_output*", "head.*"]
train.output_dir = "output/DigitScenes/retinanet_R10_from_R18_inherit"
