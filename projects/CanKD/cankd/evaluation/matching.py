from collections.abc import Sequence

import torch
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import Instances, pairwise_iou
from torch import Tensor

__all__ = ["annotated_instances", "confident_instances", "match_greedily"]


def confident_instances(found: Instances, score_threshold: float) -> Instances:
    """Returns the detections from a score upwards, on the CPU, best first."""
    found = found.to("cpu")
    found = found[found.scores >= score_threshold]
    return found[found.scores.argsort(descending=True, stable=True)]


def match_greedily(found: Instances, true: Instances, *, iou_threshold: float, by_class: bool = False) -> Tensor:
    """Matches detections and objects of one image one to one.

    In the order of their scores, each detection takes the free object that it overlaps most, if the IoU reaches the
    threshold.

    Args:
        found: detections, as :func:`confident_instances` gives them, with ``pred_boxes`` and ``pred_classes``.
        true: objects, with ``gt_boxes`` and ``gt_classes``.
        iou_threshold: lowest IoU of a match, above 0.
        by_class: whether the two have to be of one class.

    Returns:
        For each detection the index of its object, or -1, ``(len(found),)``.
    """
    overlaps = pairwise_iou(found.pred_boxes, true.gt_boxes)  # (found, true)
    if by_class:
        overlaps[found.pred_classes[:, None] != true.gt_classes] = 0
    matches = torch.full((len(found),), -1)
    for i, overlap in enumerate(overlaps):
        if len(overlap) and overlap.max() >= iou_threshold:
            matches[i] = overlap.argmax()
            overlaps[:, matches[i]] = 0
    return matches


def annotated_instances(annotations: Sequence[dict], image_size: tuple[int, int], *, crowds: bool = False) -> Instances:
    """Returns the annotated objects of an image.

    Args:
        annotations: in Detectron2's format.
        image_size: height and width of the image, in pixels.
        crowds: whether crowds are among them.
    """
    keys = "bbox", "bbox_mode", "category_id"  # without masks, which would take long to read
    kept = [{key: a[key] for key in keys} for a in annotations if crowds or not a.get("iscrowd", 0)]
    return annotations_to_instances(kept, image_size)
