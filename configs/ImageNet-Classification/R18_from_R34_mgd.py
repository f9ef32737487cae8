"""MGD at the backbone's last stage."""

from ..common.methods import with_method
from .R18_from_R34 import dataloader, lr_multiplier, model, optimizer, train

model = with_method(model, train, "mgd")

train.output_dir = "output/ImageNet-Classification/R18_from_R34_mgd"
