from collections.abc import Iterable, Sequence

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, pairwise_iou
from torch import Tensor

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
            ValueError: if there is no class, or a threshold is not between 0 and 1.
        """
        if not class_names:
            raise ValueError("a confusion matrix needs classes, and the data set names none")
        if not 0 < iou_threshold <= 1 or not 0 <= score_threshold <= 1:
            raise ValueError(
                f"the thresholds are {iou_threshold} (IoU) and {score_threshold} (score); both have to lie between 0 "
                "and 1, and that of the IoU above 0"
            )
        self.class_names = [*class_names, "background"]
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold
        self.counts = np.zeros((len(self.class_names), len(self.class_names)), dtype=int)

    def add(self, boxes: Tensor, scores: Tensor, classes: Tensor, true_boxes: Tensor, true_classes: Tensor) -> None:
        """Counts one image.

        Args:
            boxes, scores, classes: of the detections, ``(D, 4)`` as x0, y0, x1, y1, ``(D,)`` and ``(D,)``.
            true_boxes, true_classes: of the objects, ``(T, 4)`` and ``(T,)``.
        """
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] >= self.score_threshold]
        overlaps = pairwise_iou(Boxes(boxes[order]), Boxes(true_boxes))  # (D, T)
        free = torch.ones(len(true_boxes), dtype=torch.bool)
        background = len(self.class_names) - 1
        for overlap, found in zip(overlaps, classes[order].tolist()):
            overlap = overlap.where(free, -1.0)
            best = int(overlap.argmax()) if len(overlap) else None
            if best is not None and overlap[best] >= self.iou_threshold:
                free[best] = False
                self.counts[int(true_classes[best]), found] += 1
            else:
                self.counts[background, found] += 1
        for missed in true_classes[free].tolist():
            self.counts[missed, background] += 1

    def add_annotated(self, instances, annotations: Iterable[dict]) -> None:
        """Counts a detector's output for one image.

        Args:
            instances: Detectron2's, with ``pred_boxes``, ``scores`` and ``pred_classes``.
            annotations: in Detectron2's format; crowds are left out.
        """
        annotations = [a for a in annotations if not a.get("iscrowd", 0)]
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
        found = instances.to("cpu")
        self.add(
            found.pred_boxes.tensor,
            found.scores,
            found.pred_classes,
            torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float),
            torch.tensor([a["category_id"] for a in annotations], dtype=torch.long),
        )

    def percentages(self) -> np.ndarray:
        """Returns the counts as per cent of each row, ``(classes + 1, classes + 1)``; NaN in rows without counts."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.divide(100.0 * self.counts, totals, out=np.full(self.counts.shape, np.nan), where=totals > 0)
