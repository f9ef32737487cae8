"""Training options of Digit Scenes' teachers."""

from .digit_scenes_train import train

train.max_iter = 6000
train.checkpointer.period = 1000
