"""The student alone, where 150 of the 3,000 training images are labelled."""

from .retinanet_R10 import dataloader, lr_multiplier, model, optimizer, train

dataloader.train.dataset.names = "digit_scenes_train_150"

train.output_dir = "output/DigitScenes/retinanet_R10_150"
