"""Maps over images: features (supplement, figure 6) and attention."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
from cankd.utils import UserError
from torch import Tensor

from .figures import save_figure

__all__ = ["HeatMap", "REDUCTIONS", "draw_heatmaps", "reduce_channels"]

REDUCTIONS = ("mean", "max", "norm", "top")


class HeatMap(NamedTuple):
    """A value for each position of a feature map.

    Attributes:
        values: ``(H, W)``.
        stride: of a position, in pixels of the image that it is drawn over.
    """

    values: np.ndarray
    stride: float


def reduce_channels(feature: Tensor, reduction: str, top_k: int = 8) -> Tensor:
    """Reduces a feature to one value a position.

    Args:
        feature: ``(C, H, W)``.
        reduction: "mean", "max" (of the absolute values), "norm" (L2), or "top", the mean over those ``top_k`` channels
            that vary most over the positions.
        top_k: channels of "top".

    Returns:
        ``(H, W)``.

    Raises:
        UserError: if the reduction is unknown, or there are fewer channels than ``top_k``.
    """
    if reduction == "mean":
        return feature.mean(dim=0)
    if reduction == "max":
        return feature.abs().amax(dim=0)
    if reduction == "norm":
        return feature.norm(dim=0)
    if reduction != "top":
        raise UserError(f"the reduction is {reduction!r}; it has to be one of {', '.join(REDUCTIONS)}")
    if not 1 <= top_k <= len(feature):
        raise UserError(f"the top {top_k} channels are asked for, and there are {len(feature)}")
    most = feature.flatten(1).var(dim=1).topk(top_k).indices
    return feature[most].mean(dim=0)


def draw_heatmaps(
    path: str,
    image: np.ndarray,
    rows: Mapping[str, Mapping[str, HeatMap | None]],
    *,
    label: str,
    signed: bool = False,
    marks: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> None:
    """Draws maps over an image, a row for each level and a column for each model; a row has one colour scale.

    Args:
        path: PNG file.
        image: RGB, ``(H, W, 3)``, uint8, as the mapper gives it.
        rows: map from row title to column title, the same in each row, to map, None where there is none. What reaches
            beyond the image, the padding, is not shown, and does not count for the colours.
        label: of the colour scales.
        signed: whether 0 is to be in the middle of the colours.
        marks: (x, y) in pixels of the image to mark, by row title.
    """
    titles = list(next(iter(rows.values())))
    height, width = image.shape[:2]
    size = 2.6 * (1 + len(titles)) + 1, 2.6 * len(rows) * height / width + 0.4
    figure, axes = plt.subplots(len(rows), 1 + len(titles), figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)  # inches: room for the row titles
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for axis_row, (name, maps) in zip(axes, rows.items()):
        shown = np.concatenate([_visible(each, height, width).ravel() for each in maps.values() if each is not None])
        low, high = float(shown.min()), float(shown.max())
        if signed:
            low, high = -max(-low, high), max(-low, high)
        if low == high:  # a constant map is dark, or in the middle
            low, high = low - signed, high + 1
        axis_row[0].imshow(image)
        axis_row[0].set_ylabel(name)
        for axis, title in zip(axis_row[1:], titles):
            if maps[title] is None:
                axis.set_axis_off()  # its title stays
                continue
            axis.imshow(gray, cmap="gray", vmin=0, vmax=255)
            values, stride = maps[title]
            extent = 0, values.shape[1] * stride, values.shape[0] * stride, 0
            colors = dict(cmap="RdBu_r" if signed else "viridis", vmin=low, vmax=high)
            drawn = axis.imshow(values, extent=extent, alpha=0.75, interpolation="nearest", **colors)
        for axis in axis_row:
            axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            for x, y in (marks or {}).get(name, ()):
                axis.plot(x, y, marker="o", markersize=7, markerfacecolor="none", markeredgecolor="white", mew=3)
                axis.plot(x, y, marker="o", markersize=7, markerfacecolor="none", markeredgecolor="black", mew=1)
        figure.colorbar(drawn, ax=axis_row.tolist(), label=label, fraction=0.03, pad=0.01)
    for axis, title in zip(axes[0], ["image", *titles]):
        axis.set_title(title)
    save_figure(figure, path)


def _visible(heat_map, height, width):
    values, stride = heat_map
    return values[: math.ceil(height / stride), : math.ceil(width / stride)]
