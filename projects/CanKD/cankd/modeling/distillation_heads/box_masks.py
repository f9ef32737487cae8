"""Weights of positions by the ground-truth boxes, as FGD has them."""

import torch
from cankd.utils import UserError
from detectron2.structures import Boxes
from torch import Tensor

from .distillation_head import StepContext

__all__ = ["box_masks", "boxes_in_cells"]


def box_masks(
    context: StepContext | None, level: str, like: Tensor, *, by_stride: bool = False
) -> tuple[Tensor, Tensor]:
    """Computes the scaled masks F and G of foreground and background (FGD, Sec. 3.1).

    A box covers the cells that it touches, both ends rounded outwards and included. Its cells weigh one over their
    number, counted before the map cuts them off. F is the largest weight of the boxes that cover a position, 0 where
    none does; G is one over the number of those positions there.

    Args:
        context: of the step, with "image" and "instances" in its records.
        level: whose maps they are.
        like: a feature of that level, ``(N, C, H, W)``.
        by_stride: whether to bring boxes to the map by the level's stride. By default it is, as published, the ratio
            of map and image: that stretches the masks over the padding that smaller images of a batch have.

    Returns:
        F and G, each ``(N, 1, H, W)``, of the feature's type.

    Raises:
        UserError: if there are no boxes, or no stride by which to scale them.
    """
    cells = boxes_in_cells(context, level, like, by_stride=by_stride)
    foreground = torch.stack([_foreground(boxes, like) for boxes in cells])
    background = (foreground == 0).to(like.dtype)
    return foreground, background / background.sum((2, 3), keepdim=True).clamp(min=1)


def boxes_in_cells(context: StepContext | None, level: str, like: Tensor, *, by_stride: bool = False) -> list[Tensor]:
    """Computes the ground-truth boxes of each image in cells of a map, rounded outwards, ``(n, 4)``.

    The arguments and errors are those of :func:`box_masks`.
    """
    _check(context, level, len(like), by_stride)
    stride = context.strides[level] if by_stride else None
    boxes = [_scale(record, like, stride) for record in context.batch]
    return [torch.cat([corners[:, :2].floor(), corners[:, 2:].ceil()], 1) for corners in boxes]


def _check(context, level, images, by_stride):
    records = context.batch if context else ()
    complete = all({"image", "instances"} <= r.keys() and r["instances"].has("gt_boxes") for r in records)
    if len(records) != images or not complete:
        raise UserError(
            f"level {level!r} is weighed by ground-truth boxes, but not every image of the batch has them: train on "
            'a data set with boxes, or give the head a StepContext whose records have "image" and "instances"'
        )
    if any(type(r["instances"].gt_boxes) is not Boxes for r in records):
        raise UserError(
            f"level {level!r} is weighed by ground-truth boxes, which have to be upright: these are rotated"
        )
    if by_stride and not context.strides.get(level):
        raise UserError(
            f"boxes are scaled by the stride of level {level!r}, which is unknown: leave boxes_by_stride out"
        )


def _scale(record, like, stride):
    """Returns an image's boxes in the map's cells, ``(n, 4)``, not rounded."""
    boxes = record["instances"].gt_boxes.tensor.to(like)
    if stride:
        return boxes / stride
    (height, width), (image_height, image_width) = like.shape[2:], record["image"].shape[-2:]
    # Multiplied first: whole cells stay whole numbers.
    return boxes * boxes.new_tensor([width, height] * 2) / boxes.new_tensor([image_width, image_height] * 2)


def _foreground(boxes, like):
    """Returns F of one image, ``(1, H, W)``."""
    first, last = boxes[:, :2], boxes[:, 2:]
    y, x = (torch.arange(side, device=like.device) for side in like.shape[2:])
    columns = (first[:, :1] <= x) & (x <= last[:, :1])  # (n, W)
    rows = (first[:, 1:] <= y) & (y <= last[:, 1:])  # (n, H)
    weights = 1 / (last - first + 1).prod(1)
    weights = weights[:, None, None] * (rows[:, :, None] & columns[:, None])  # (n, H, W)
    nowhere = weights.new_zeros(1, *like.shape[2:])
    return torch.cat([nowhere, weights]).amax(0, keepdim=True)
