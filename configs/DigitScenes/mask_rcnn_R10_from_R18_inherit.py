"""CanKD†: neck, box head and mask head start from the teacher's weights, but for convolutions of another width."""

from ..common.inheritance import small_mask_rcnn
from .mask_rcnn_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = small_mask_rcnn
train.output_dir = "output/DigitScenes/mask_rcnn_R10_from_R18_inherit"
