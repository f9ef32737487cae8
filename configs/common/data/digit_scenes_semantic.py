"""Digit Scenes with its semantic masks: ten digits and the background."""

from cankd.evaluation import SemSegEvaluator
from detectron2.config import LazyCall as L

from .digit_scenes import dataloader

dataloader.train.dataset.filter_empty = False
dataloader.evaluator = L(SemSegEvaluator)(dataset_name="${..test.dataset.names}")
