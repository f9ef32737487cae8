"""CanKD†: the student's neck starts from the teacher's weights, its box head and classifier from the first stage's.

The cascade's regressors know no classes, so the student's keeps its own start.
"""

from ..common.inheritance import faster_rcnn_from_cascade
from .faster_rcnn_R50_from_cascade_X101 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = faster_rcnn_from_cascade
train.output_dir = "output/COCO-Detection/faster_rcnn_R50_from_cascade_X101_inherit"
