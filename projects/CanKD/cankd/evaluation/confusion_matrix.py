from collections.abc import Sequence

import numpy as np
from cankd.utils import UserError
from detectron2.structures import Instances, pairwise_iou

from .confusion_counts import ConfusionCounts
from .matching import confident_instances, match_greedily

__all__ = ["COUNTINGS", "ConfusionMatrix"]

COUNTINGS = ("one-to-one", "published")


class ConfusionMatrix(ConfusionCounts):
    """Counts which classes a detector takes for which (supplement, figures 1 and 2).

    In each image, detections from a score threshold upwards are compared with the ground truth, whatever their
    classes. The last row counts detections that match nothing, the last column objects that are missed.

    - "one-to-one": in the order of their scores, each detection takes the free object that it overlaps most, if the
      IoU reaches the threshold. An object that none takes is missed.
    - "published", as in the figures: each detection counts for every object with which its IoU reaches the threshold.
      An object that no detection of its own class reaches is missed, also if one of another class does.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        counting: str = "one-to-one",
        iou_threshold: float = 0.5,
        score_threshold: float = 0.3,
    ):
        """
        Args:
            class_names: in the order of the contiguous ids.
            counting: one of ``COUNTINGS``, see above.
            iou_threshold: lowest IoU of a match, above 0.
            score_threshold: lowest score of a detection that counts.

        Raises:
            UserError: if there is no class, the counting is unknown, or a threshold is not between 0 and 1.
        """
        super().__init__(class_names, "background")
        if counting not in COUNTINGS:
            raise UserError(f"counting is {counting!r}; it has to be one of {', '.join(COUNTINGS)}")
        if not 0 < iou_threshold <= 1 or not 0 <= score_threshold <= 1:
            raise UserError(
                f"the thresholds are {iou_threshold} (IoU) and {score_threshold} (score); both have to lie between 0 "
                "and 1, and that of the IoU above 0"
            )
        self.counting = counting
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold

    def add(self, found: Instances, true: Instances) -> None:
        """Counts one image.

        Args:
            found: detections, with ``pred_boxes``, ``scores`` and ``pred_classes``.
            true: objects, with ``gt_boxes`` and ``gt_classes``.
        """
        found = confident_instances(found, self.score_threshold)
        predicted, actual = found.pred_classes.numpy(), true.gt_classes.numpy()
        background = len(self.class_names) - 1
        matches, hits = self._match(found, true)
        detections, objects = matches.nonzero()
        np.add.at(self.counts, (actual[objects], predicted[detections]), 1)
        np.add.at(self.counts, (background, predicted[~matches.any(1)]), 1)
        np.add.at(self.counts, (actual[~hits.any(0)], background), 1)

    def _match(self, found, true):
        """Returns which detections count for which objects, and which keep them from being missed: (found, true)."""
        if self.counting == "published":
            matches = (pairwise_iou(found.pred_boxes, true.gt_boxes) >= self.iou_threshold).numpy()
            return matches, matches & (found.pred_classes[:, None] == true.gt_classes).numpy()
        matches = match_greedily(found, true, iou_threshold=self.iou_threshold).numpy()
        matches = matches[:, None] == np.arange(len(true))
        return matches, matches
