"""Digit Scenes of four times the area: as large digits, four times as many. A batch has as many pixels as at 160."""

from .digit_scenes import dataloader

dataloader.train.dataset.names = "digit_scenes_320_train"
dataloader.train.total_batch_size = 2
dataloader.test.dataset.names = "digit_scenes_320_val"
dataloader.test.batch_size = 2
