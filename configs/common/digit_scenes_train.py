"""Training options of Digit Scenes' students."""

from .train import train

train.reference_batch_size = 8
train.max_iter = 1000
train.checkpointer = dict(period=100, max_to_keep=2)
train.eval_period = 0
train.clip_gradients.max_norm = 10.0
