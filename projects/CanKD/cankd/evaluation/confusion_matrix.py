from collections.abc import Sequence

import numpy as np
from cankd.utils import UserError
from detectron2.structures import Instances

from .matching import confident_instances, match_greedily

__all__ = ["ConfusionMatrix"]


class ConfusionMatrix:
    """Counts which classes a detector takes for which (supplement, figures 1 and 2).

    In each image, detections from a score threshold upwards are matched one to one with the ground truth, whatever
    their classes: in the order of their scores, each takes the free object that it overlaps most, if the IoU reaches
    the threshold. The last row counts detections that match nothing, the last column objects that are not found.
    """

    def __init__(self, class_names: Sequence[str], *, iou_threshold: float = 0.5, score_threshold: float = 0.3):
        """
        Args:
            class_names: in the order of the contiguous ids.
            iou_threshold: lowest IoU of a match, above 0.
            score_threshold: lowest score of a detection that counts.

        Raises:
            UserError: if there is no class, or a threshold is not between 0 and 1.
        """
        if not class_names:
            raise UserError("a confusion matrix needs classes, and the data set names none")
        if not 0 < iou_threshold <= 1 or not 0 <= score_threshold <= 1:
            raise UserError(
                f"the thresholds are {iou_threshold} (IoU) and {score_threshold} (score); both have to lie between 0 "
                "and 1, and that of the IoU above 0"
            )
        self.class_names = [*class_names, "background"]
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold
        self.counts = np.zeros((len(self.class_names), len(self.class_names)), dtype=int)

    def add(self, found: Instances, true: Instances) -> None:
        """Counts one image.

        Args:
            found: detections, with ``pred_boxes``, ``scores`` and ``pred_classes``.
            true: objects, with ``gt_boxes`` and ``gt_classes``.
        """
        found = confident_instances(found, self.score_threshold)
        background = len(self.class_names) - 1
        missed = set(range(len(true)))
        matches = match_greedily(found, true, iou_threshold=self.iou_threshold)
        for predicted, match in zip(found.pred_classes.tolist(), matches.tolist()):
            missed.discard(match)
            self.counts[background if match < 0 else int(true.gt_classes[match]), predicted] += 1
        for i in missed:
            self.counts[int(true.gt_classes[i]), background] += 1

    def percentages(self) -> np.ndarray:
        """Returns the counts as per cent of each row, ``(classes + 1, classes + 1)``; NaN in rows without counts."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.divide(100.0 * self.counts, totals, out=np.full(self.counts.shape, np.nan), where=totals > 0)
