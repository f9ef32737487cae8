from .coco_evaluation import FastCOCOEvaluator
from .confusion_matrix import ConfusionMatrix
from .robustness import HEADLINES, Grid, metric_of, severity_means, summarize_robustness
from .sem_seg_evaluation import SemSegEvaluator
