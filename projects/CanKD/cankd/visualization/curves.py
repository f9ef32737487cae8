import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt

from .figures import save_figure

__all__ = ["draw_curves", "draw_severity_curves"]

# Okabe and Ito's colours, which colour-blind readers can tell apart; the markers differ as well.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvPX"


def draw_severity_curves(path: str, groups: Mapping[str, Mapping[str, Mapping[int, float]]], metric: str) -> None:
    """Draws a metric against the severity of corruptions, a panel for each group of them and a line for each model.

    Args:
        path: PNG file.
        groups: map from group to model to severity to value; severity 0 is the clean image.
        metric: its name.
    """
    figure, axes = plt.subplots(
        1, len(groups), figsize=(2.8 * len(groups) + 0.6, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (group, models) in zip(axes[0], groups.items()):
        for i, (name, values) in enumerate(models.items()):
            style = dict(color=COLORS[i % len(COLORS)], marker=MARKERS[i % len(MARKERS)], label=name)
            axis.plot(list(values), list(values.values()), **style)
        axis.set(title=group, xlabel="severity", xticks=sorted({s for v in models.values() for s in v}))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(metric)
    axes[0, 0].set_ylim(bottom=0)  # of all panels, once all lines are there
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    save_figure(figure, path)


def draw_curves(
    path: str,
    panels: Sequence[Sequence[tuple[str, Mapping[str, Mapping[int, float]]]]],
    *,
    lines: Mapping[str, float] | None = None,
) -> None:
    """Draws curves against iterations, each run in one colour throughout.

    Args:
        path: PNG file.
        panels: rows of (title, map from run to iteration to value). Values that are not finite are left out.
        lines: horizontal lines of the first panel by label, such as the teacher's AP.
    """
    columns = max(map(len, panels))
    figure, axes = plt.subplots(
        len(panels), columns, figsize=(3.6 * columns, 2.7 * len(panels) + 0.4), squeeze=False, layout="constrained"
    )
    runs = list(dict.fromkeys(run for row in panels for _, curves in row for run in curves))
    for axis_row, row in zip(axes, panels):
        for axis in axis_row[len(row) :]:
            axis.set_visible(False)
        for axis, (title, curves) in zip(axis_row, row):
            for run, curve in curves.items():
                points = [(i, value) for i, value in curve.items() if math.isfinite(value)]
                marker = "o" if len(points) < 3 else None
                color = COLORS[runs.index(run) % len(COLORS)]
                axis.plot(*(zip(*points) if points else ((), ())), color=color, marker=marker, linewidth=1.5)
            axis.set(title=title, xlabel="iteration")
            axis.set_xlim(left=0)
            axis.grid(alpha=0.3)
    for label, value in (lines or {}).items():
        axes[0, 0].axhline(value, color="black", linestyle="--", linewidth=1.2)
        axes[0, 0].annotate(label, (0.01, value), xycoords=("axes fraction", "data"), va="bottom")
        axes[0, 0].margins(y=0.1)
    handles = [plt.Line2D([], [], color=COLORS[i % len(COLORS)], label=run) for i, run in enumerate(runs)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(runs), 4), frameon=False)
    save_figure(figure, path)
