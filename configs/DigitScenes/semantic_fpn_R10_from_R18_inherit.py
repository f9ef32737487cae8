"""CanKD†: the student's neck and head start from the teacher's weights, but for convolutions of another width."""

from .semantic_fpn_R10_from_R18 import dataloader, lr_multiplier, model, optimizer, train

train.inherit = ["backbone.fpn_output*", "sem_seg_head.*"]
train.output_dir = "output/DigitScenes/semantic_fpn_R10_from_R18_inherit"
