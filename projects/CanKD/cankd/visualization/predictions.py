"""Detections, segmentations and classes drawn side by side (supplement, figures 4 and 5)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import BoxMode, Instances
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import GenericMask, Visualizer
from torchvision.utils import draw_segmentation_masks

from .figures import save_figure, take_texts_literally

__all__ = ["draw_annotations", "draw_class", "draw_detections", "draw_segmentation", "save_grid"]


def draw_detections(
    image: np.ndarray, instances: Instances, metadata: Metadata, *, score_threshold: float = 0.3, scale: float = 1.0
) -> np.ndarray:
    """Draws what a detector found: boxes, and masks and keypoints where there are any.

    Args:
        image: RGB, ``(H, W, 3)``, uint8.
        instances: with ``pred_boxes``, ``pred_classes`` and ``scores``, in the image's pixels; also ``pred_masks``,
            ``(N, H, W)``, and ``pred_keypoints``, ``(N, K, 3)``.
        metadata: names and colours of the classes.
        score_threshold: lowest score that is drawn.
        scale: of the result against the image.

    Returns:
        RGB, uint8, ``scale`` times as large.
    """
    found = instances.to("cpu")
    found = found[found.scores.argsort()]  # the best on top
    found = found[found.scores >= score_threshold]
    classes = found.pred_classes.tolist()
    labels = [f"{metadata.thing_classes[c]} {s:.0%}" for c, s in zip(classes, found.scores)]
    masks, keypoints = (
        np.asarray(found.get(name)) if found.has(name) else [None] * len(found)
        for name in ("pred_masks", "pred_keypoints")
    )
    objects = map(_Object, found.pred_boxes.tensor.numpy(), classes, labels, masks, keypoints)
    return _draw(image, objects, metadata, scale)


def draw_annotations(
    image: np.ndarray, annotations: Sequence[Mapping], metadata: Metadata, *, scale: float = 1.0
) -> np.ndarray:
    """Draws the ground truth: boxes, and masks and keypoints where there are any.

    Args:
        image, metadata, scale: see :func:`draw_detections`.
        annotations: in Detectron2's format.

    Returns:
        See :func:`draw_detections`.
    """
    height, width = image.shape[:2]
    objects = []
    for annotation in annotations:
        box, mode = annotation["bbox"], annotation["bbox_mode"]
        if mode != BoxMode.XYWHA_ABS:
            box = BoxMode.convert(box, mode, BoxMode.XYXY_ABS)
        category, segmentation, keypoints = map(annotation.get, ("category_id", "segmentation", "keypoints"))
        if isinstance(segmentation, tuple):
            segmentation = list(segmentation)
        mask = GenericMask(segmentation, height, width).mask if segmentation else None
        points = None if keypoints is None else np.reshape(keypoints, (-1, 3))
        objects.append(_Object(box, category, metadata.thing_classes[category], mask, points))
    return _draw(image, objects, metadata, scale)


def draw_segmentation(
    image: np.ndarray, labels: np.ndarray, metadata: Metadata, *, alpha: float = 0.6, scale: float = 1.0
) -> np.ndarray:
    """Draws a class for each pixel, in the data set's colours.

    Args:
        image, metadata, scale: see :func:`draw_detections`.
        labels: ``(H, W)``, integers; what is no class, as a label to ignore, stays as it is.
        alpha: how much the colours cover the image, from 0 to 1.

    Returns:
        See :func:`draw_detections`.
    """
    colors = metadata.get("stuff_colors") or colormap(rgb=True).tolist()
    masks = torch.as_tensor(np.array(labels))[None] == torch.arange(len(metadata.stuff_classes)).view(-1, 1, 1)
    colors = [tuple(colors[i % len(colors)]) for i in range(len(masks))]
    picture = torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1)
    picture = draw_segmentation_masks(picture, masks, alpha=alpha, colors=colors).permute(1, 2, 0).numpy()
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)


def draw_class(image: np.ndarray, label: str, *, is_right: bool | None = None, scale: float = 1.0) -> np.ndarray:
    """Writes an image's class into its corner.

    Args:
        image, scale: see :func:`draw_detections`.
        label: what to write.
        is_right: green if so, red if not, white if nobody knows.

    Returns:
        See :func:`draw_detections`.
    """
    visualizer = Visualizer(image, scale=scale)
    color = {None: "white", True: "lime", False: "tomato"}[is_right]
    visualizer.draw_text(label, (1, 1), font_size=8, color=color, horizontal_alignment="left")
    return _picture(visualizer)


class _Object(NamedTuple):
    box: Any
    category: int
    label: str
    mask: np.ndarray | None
    keypoints: np.ndarray | None


def _draw(image, objects, metadata, scale):
    visualizer = Visualizer(image, metadata, scale=scale)
    colors = metadata.get("thing_colors") or colormap(rgb=True).tolist()
    for box, category, label, mask, keypoints in objects:
        color = tuple(channel / 255 for channel in colors[category % len(colors)])
        if len(box) == 5:  # rotated
            visualizer.draw_rotated_box_with_label(box, alpha=1.0, edge_color=color, label=label)
            continue
        visualizer.draw_box(box, alpha=1.0, edge_color=color)
        if mask is not None:
            visualizer.draw_binary_mask(mask, color, alpha=0.4, area_threshold=0)
        if keypoints is not None:
            visualizer.draw_and_connect_keypoints(keypoints)
        # Above the box, or within where there is no room.
        position = box[0], box[1] - 9 if box[1] >= 9 else box[1]
        visualizer.draw_text(label, position, font_size=5, color=color, horizontal_alignment="left")
    return _picture(visualizer)


def _picture(visualizer):
    take_texts_literally(visualizer.output.fig)
    return visualizer.get_output().get_image()


def save_grid(path: str, rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str] = ()) -> None:
    """Saves pictures in a grid.

    Args:
        path: PNG file.
        rows: RGB pictures, as many in each row; the last may have fewer.
        titles: of the columns.
    """
    height, width = rows[0][0].shape[:2]
    size = (3 * len(rows[0]), 3 * len(rows) * height / width + 0.3 * bool(titles))
    figure, axes = plt.subplots(len(rows), len(rows[0]), figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, picture in zip(axes.flat, (picture for row in rows for picture in row)):
        axis.imshow(picture)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title)
    save_figure(figure, path)
