"""Training options of Digit Patches."""

from .train import train

train.reference_batch_size = 32
train.max_iter = 1000
train.checkpointer = dict(period=250, max_to_keep=2)
train.eval_period = 0
