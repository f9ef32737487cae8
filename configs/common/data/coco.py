"""COCO for the published recipes: one scale, flipped at random, in RGB, 4 images an iteration."""

from cankd.evaluation import FastCOCOEvaluator
from detectron2.model_zoo import get_config

dataloader = get_config("common/data/coco.py").dataloader
dataloader.train.mapper.use_instance_mask = False
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.augmentations[0].short_edge_length = 800
dataloader.train.total_batch_size = 4
dataloader.evaluator._target_ = FastCOCOEvaluator
