from collections.abc import Mapping

import torch
from cankd.evaluation import confident_instances, match_greedily
from cankd.utils import markdown_table
from detectron2.structures import Boxes, Instances
from torch import Tensor

__all__ = ["Agreement"]

LIMITS = {"scores": 1e-3, "pred_boxes": 0.1, "pred_masks": 0.01, "pred_keypoints": 1.0, "sem_seg": 1e-3}
"""Largest difference by output: boxes and key points in pixels, ``sem_seg`` as a share of the largest value."""

MAX_SHARE = 0.01
"""Of detections without a partner, and of pixels of another class: at a threshold, rounding decides."""


class Agreement:
    """How far an exported model predicts what the model itself does."""

    def __init__(self):
        self._apart = self._total = 0
        self._counted = ""
        self._largest = {}

    def add(self, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """Compares the predictions for one image.

        Args:
            expected: of the model, see :func:`cankd.export.predictions.predict_tensors`.
            found: of the exported model.
        """
        if "pred_boxes" in expected:
            self._add_detections(expected, found)
        elif "sem_seg" in expected:
            differ = expected["sem_seg"].argmax(0) != found["sem_seg"].argmax(0)
            self._count("pixels of another class", int(differ.sum()), differ.numel())
            scale = expected["sem_seg"].abs().max()
            self._compare("sem_seg", expected["sem_seg"] / scale, found["sem_seg"] / scale)
        else:
            scores = [output["scores"][output["classes"].argsort()] for output in (expected, found)]
            self._compare("scores", *scores)

    def _add_detections(self, expected, found):
        found, true = _instances(found), _instances(expected)
        true.gt_boxes, true.gt_classes = true.pred_boxes, true.pred_classes
        matches = match_greedily(found, true, iou_threshold=0.5, by_class=True)
        partners = matches[matches >= 0]
        apart = len(found) + len(true) - 2 * len(partners)
        self._count("detections without a partner", apart, len(found) + len(true))
        for name in LIMITS.keys() & found.get_fields().keys():
            pair = true[partners].get(name), found[matches >= 0].get(name)
            self._compare(name, *(getattr(value, "tensor", value) for value in pair))

    def _count(self, what, apart, total):
        self._counted = what
        self._apart += apart
        self._total += total

    def _compare(self, name, expected, found):
        if len(expected):
            difference = (expected - found).abs().max()
            self._largest[name] = torch.maximum(difference, self._largest.get(name, difference))  # NaN stays

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to compare: the model found nothing, and the exported model no more."""
        return not self._largest and not self._apart

    @property
    def holds(self) -> bool:
        """Whether all differences are within their limits. It takes something to compare."""
        few_apart = self._apart <= MAX_SHARE * self._total
        return few_apart and bool(self._largest) and all(v <= LIMITS[name] for name, v in self._largest.items())

    def table(self) -> str:
        """Returns the differences and their limits as Markdown."""
        rows = []
        if self._counted:
            rows.append((self._counted, f"{self._apart} of {self._total}", f"{MAX_SHARE:.0%}"))
        rows += [(f"largest difference of {k}", f"{v:.1e}", f"{LIMITS[k]:g}") for k, v in sorted(self._largest.items())]
        return markdown_table(rows, ["exported against the model", "found", "allowed"])


def _instances(output):
    """Returns detections whose boxes are not empty, the best first."""
    instances = Instances((0, 0), **{**output, "pred_boxes": Boxes(output["pred_boxes"])})
    return confident_instances(instances[instances.pred_boxes.nonempty()], 0.0)
