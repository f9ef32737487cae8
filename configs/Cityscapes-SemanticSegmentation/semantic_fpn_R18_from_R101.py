"""CanKD: semantic FPN-R18 from semantic FPN-R101, which semantic_fpn_R101.py trains."""

from .semantic_fpn_R18 import dataloader, lr_multiplier
from .semantic_fpn_R18 import model as _student
from .semantic_fpn_R18 import optimizer, train
from .semantic_fpn_R50_from_R101 import model

model.student = _student
model.input_format = "RGB"

train.output_dir = "output/Cityscapes-SemanticSegmentation/semantic_fpn_R18_from_R101"
