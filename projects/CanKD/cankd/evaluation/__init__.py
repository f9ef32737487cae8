from .build import build_evaluator
from .cityscapes_evaluation import CityscapesInstanceEvaluator
from .class_confusion import ClassConfusion
from .classification_evaluation import ClassificationEvaluator
from .coco_evaluation import FastCOCOEvaluator
from .confusion_counts import ConfusionCounts
from .confusion_matrix import COUNTINGS, ConfusionMatrix
from .lvis_evaluation import LVISEvaluator
from .matching import annotated_instances, confident_instances, match_greedily
from .metrics import METRICS, ROBUSTNESS_METRICS, TASK_TITLES, first_metric, lacks_boxes, main_metric, value_or_zero
from .panoptic_evaluation import PanopticEvaluator
from .robustness import Grid, mean_corruption_error, metric_of, severity_means, summarize_robustness
from .sem_seg_evaluation import SemSegEvaluator
