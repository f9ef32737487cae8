from .coco_evaluation import FastCOCOEvaluator
from .sem_seg_evaluation import SemSegEvaluator
