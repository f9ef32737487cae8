from .coco_evaluation import FastCOCOEvaluator
