"""Training options of the published Cityscapes recipes."""

from .train import train

train.reference_batch_size = 8
train.max_iter = 80000
train.eval_period = 8000
train.checkpointer = dict(period=8000, max_to_keep=3)
train.log_period = 50
