"""Training options of the published ImageNet recipes: 100 epochs."""

from .schedules import imagenet_epoch, imagenet_iterations
from .train import train

train.reference_batch_size = 256
train.max_iter = imagenet_iterations
train.eval_period = imagenet_epoch
train.checkpointer = dict(period=imagenet_epoch, max_to_keep=3)
train.log_period = 100
