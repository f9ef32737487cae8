import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from .figures import save_figure

__all__ = ["draw_confusion_matrices"]

MANY = 25  # classes from which single cells get no number


def draw_confusion_matrices(
    path: str,
    matrices: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    difference: tuple[str, str] | None = None,
) -> None:
    """Draws confusion matrices side by side with a common scale, and the difference of two (supplement, figures 1–2).

    Args:
        path: PNG file.
        matrices: map from title to per cent of each row, ``(classes, classes)``: rows are true, columns predicted.
        class_names: with the background.
        difference: titles; the first minus the second is drawn beside them, in percentage points.
    """
    count = len(class_names)
    side = min(max(0.42 * count + 1.2, 3.6), 16)
    panels = len(matrices) + bool(difference)
    columns = min(panels, 2)
    rows = math.ceil(panels / columns)
    size = (side + 0.8) * columns, (side + 0.4) * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    axes = axes.ravel()
    for axis in axes[panels:]:
        axis.set_visible(False)
    for axis, (title, matrix) in zip(axes, matrices.items()):
        drawn = axis.imshow(matrix, cmap="Blues", vmin=0, vmax=100)
        _write_cells(axis, matrix, "{:.0f}", lambda value: value > 60)
        axis.set_title(title)
        figure.colorbar(drawn, ax=axis, label="% of the row", shrink=0.7, pad=0.02)
    if difference:
        matrix = matrices[difference[0]] - matrices[difference[1]]
        largest = max(np.nanmax(np.abs(matrix), initial=0), 1)
        axis = axes[panels - 1]
        drawn = axis.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest)
        _write_cells(axis, matrix, "{:+.0f}", lambda value: abs(value) > 0.6 * largest)
        axis.set_title(f"{difference[0]} − {difference[1]}")
        figure.colorbar(drawn, ax=axis, label="percentage points", shrink=0.7, pad=0.02)
    font = 9 if count <= MANY else max(4.5, 360 / count)
    for axis in axes[:panels]:
        axis.set_xticks(range(count), class_names, rotation=90, fontsize=font)
        axis.set_yticks(range(count), class_names, fontsize=font)
        axis.set(xlabel="predicted", ylabel="true")
    save_figure(figure, path)


def _write_cells(axis, matrix, pattern, is_dark):
    if len(matrix) > MANY:
        return
    for (row, column), value in np.ndenumerate(matrix):
        if not np.isnan(value) and abs(value) >= 0.5:
            color = "white" if is_dark(value) else "black"
            axis.text(column, row, pattern.format(value), ha="center", va="center", fontsize=8, color=color)
