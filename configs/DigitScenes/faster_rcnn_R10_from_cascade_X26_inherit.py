"""CanKD†: the student's box head and classifier start from those of the teacher's first stage."""

from ..common.inheritance import small_faster_rcnn_from_cascade
from .faster_rcnn_R10_from_cascade_X26 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = small_faster_rcnn_from_cascade
train.output_dir = "output/DigitScenes/faster_rcnn_R10_from_cascade_X26_inherit"
