import itertools
import operator

import pycocotools.mask as mask_utils
from detectron2.utils.logger import create_small_table
from faster_coco_eval import COCOeval_faster

from .coco_evaluation import FastCOCOEvaluator
from .metrics import METRICS

__all__ = ["LVISEvaluator"]


class LVISEvaluator(FastCOCOEvaluator):
    """Evaluates boxes and masks by the rules of LVIS (Gupta et al. 2019), in C++ by faster-coco-eval.

    It gives the metrics of Detectron2's :class:`LVISEvaluator`, without the package lvis, whose evaluation fails on
    NumPy 1.24 and newer.
    """

    def __init__(
        self, dataset_name: str, tasks: tuple[str, ...] | None = None, *, max_dets_per_image: int = 300, **kwargs
    ):
        """
        Args:
            dataset_name, kwargs: see :class:`FastCOCOEvaluator`.
            tasks: "bbox", "segm" or both; what the predictions hold if not given.
            max_dets_per_image: how many detections of an image count, of all classes together.

        Raises:
            UserError: see :class:`FastCOCOEvaluator`.
        """
        super().__init__(dataset_name, tasks, max_dets_per_image=max_dets_per_image, **kwargs)
        self._max_detections = max_dets_per_image

    def _default_classes(self):
        return {i: i - 1 for i in self._coco_api.cats}

    def _evaluate(self, ground_truth, detections, task, img_ids):
        best = sorted(detections, key=lambda detection: (detection["image_id"], -detection["score"]))
        images = itertools.groupby(best, key=operator.itemgetter("image_id"))
        kept = [d for _, found in images for d in itertools.islice(found, self._max_detections)]
        kept = [detection for detection in kept if _has_area(detection, task)]
        return super()._evaluate(ground_truth, kept, task, img_ids) if kept else None

    def _build_evaluation(self, ground_truth, detections, task):
        evaluation = COCOeval_faster(ground_truth, detections, task, lvis_style=True)
        evaluation.params.maxDets = [self._max_detections]
        return evaluation

    def _derive_coco_results(self, evaluation, iou_type, class_names=None):
        names = METRICS[iou_type]
        values = [-1] * len(names) if evaluation is None else [*evaluation.all_stats[:6], *evaluation.all_stats[-3:]]
        results = {name: 100 * float(v) if v >= 0 else float("nan") for name, v in zip(names, values)}
        self._logger.info("Evaluation results for %s:\n%s", iou_type, create_small_table(results))
        return results


def _has_area(detection, task):
    """Tells whether LVIS counts a detection: not if it is empty."""
    if task == "segm":
        return mask_utils.area(detection["segmentation"]) > 0
    return detection["bbox"][2] * detection["bbox"][3] > 0
