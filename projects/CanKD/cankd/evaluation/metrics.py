"""The metrics of Detectron2's evaluators by task, the most telling first."""

import math
from collections.abc import Collection, Mapping

__all__ = [
    "METRICS",
    "ROBUSTNESS_METRICS",
    "TASK_TITLES",
    "first_metric",
    "lacks_boxes",
    "main_metric",
    "value_or_zero",
]

TASK_TITLES = {
    "bbox": "Boxes",
    "segm": "Masks",
    "keypoints": "Keypoints",
    "panoptic_seg": "Panoptic segmentation",
    "sem_seg": "Semantic segmentation",
    "classification": "Classification",
}
_OBJECTS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
_FREQUENCIES = ("APr", "APc", "APf")  # of LVIS: rare, common and frequent classes
# Semantic segmentation has mIoU from SemSegEvaluator and IoU from Cityscapes' own evaluation.
METRICS = {
    "bbox": (*_OBJECTS, *_FREQUENCIES),
    "segm": (*_OBJECTS, *_FREQUENCIES),
    "keypoints": ("AP", "AP50", "AP75", "APm", "APl"),
    "panoptic_seg": ("PQ", "SQ", "RQ", "PQ_th", "PQ_st"),
    "sem_seg": ("mIoU", "IoU", "fwIoU", "mACC", "pACC", "iIoU"),
    "classification": ("top1", "top5", "mACC"),
}
# Those that are averaged over corruptions.
ROBUSTNESS_METRICS = {
    "bbox": _OBJECTS[:3],
    "segm": _OBJECTS[:3],
    "keypoints": _OBJECTS[:3],
    "panoptic_seg": ("PQ", "SQ", "RQ"),
    "sem_seg": ("mIoU", "IoU", "fwIoU", "pACC"),
    "classification": ("top1", "top5"),
}


def main_metric(task: str, names: Collection[str]) -> str:
    """Returns the most telling metric of a task, a key of :data:`METRICS`, among those that an evaluator gave."""
    return next((name for name in METRICS[task] if name in names), next(iter(names)))


def first_metric(names: Collection[str]) -> str | None:
    """Returns the most telling of metrics such as ``bbox/AP``, None if none is known."""
    known = (f"{task}/{name}" for task, of_task in METRICS.items() for name in of_task)
    return next((name for name in known if name in names), None)


def lacks_boxes(metric: str, metrics: Mapping[str, float | None]) -> bool:
    """Tells whether a metric of masks or keypoints may be absent because no box was detected.

    Args:
        metric: ``task/name``.
        metrics: what an evaluation gave, by ``task/name``.
    """
    box_ap = metrics.get("bbox/AP", 0.0)
    return metric.startswith(("segm/", "keypoints/")) and (box_ap is None or math.isnan(box_ap))


def value_or_zero(value: float | None) -> float:
    """Returns a metric. Where nothing at all was detected, which Detectron2 calls NaN and JSON null, it is 0."""
    return 0.0 if value is None or math.isnan(value) else value
