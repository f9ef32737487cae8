"""Digit Scenes with a mask for each digit."""

from .digit_scenes import dataloader

dataloader.train.mapper.use_instance_mask = True
dataloader.evaluator.tasks = ("bbox", "segm")
