from collections.abc import Mapping

import matplotlib.pyplot as plt

from .curves import COLORS
from .figures import save_figure

__all__ = ["draw_method_curves", "draw_method_points"]


def draw_method_points(
    path: str, values: Mapping[str, Mapping[int, float]], metric: str, teacher: float | None
) -> None:
    """Draws a metric of several methods, a point a seed; lines join the points of a seed, a bar is the mean.

    Args:
        path: PNG file.
        values: map from method to seed to value.
        metric: its name.
        teacher: its value, drawn as a line if it is near; None if it is not known.
    """
    titles = list(values)
    figure, axis = plt.subplots(figsize=(6.5, 0.9 + 0.34 * len(titles)), layout="constrained")
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    for i, seed in enumerate(seeds):
        rows = [(values[title][seed], row) for row, title in enumerate(titles) if seed in values[title]]
        axis.plot(*zip(*rows), color="0.85", linewidth=0.8, zorder=1)
        axis.scatter(*zip(*rows), s=22, zorder=3, label=f"seed {seed}", color=plt.cm.viridis(i / max(len(seeds), 1)))
    for row, title in enumerate(titles):
        mean = sum(values[title].values()) / len(values[title])
        axis.plot([mean, mean], [row - 0.32, row + 0.32], color="#D55E00", linewidth=2, zorder=2)
    found = [value for by_seed in values.values() for value in by_seed.values()]
    if teacher is not None and teacher < max(found) + 2 * (max(found) - min(found)):
        axis.axvline(teacher, color="black", linestyle="--", linewidth=1.2, label="teacher")
    axis.set_yticks(range(len(titles)), titles)
    axis.invert_yaxis()
    axis.set_xlabel(metric)
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=min(len(seeds) + 1, 5), frameon=False)
    save_figure(figure, path)


def draw_method_curves(
    path: str, curves: Mapping[str, Mapping[int, Mapping[int, float]]], metric: str, baseline: str
) -> None:
    """Draws a metric of several methods against iterations: the mean of the seeds, and their range as a band.

    Args:
        path: PNG file.
        curves: map from method to seed to iterations to value.
        metric: its name.
        baseline: title of the method that the others are compared with; a line shows the mean that it ends with.
    """
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for i, (title, by_seed) in enumerate(curves.items()):
        points = sorted(set.intersection(*(set(curve) for curve in by_seed.values())))
        values = [[curve[point] for curve in by_seed.values()] for point in points]
        color = COLORS[i % len(COLORS)]
        lowest, highest = zip(*((min(v), max(v)) for v in values))
        axis.fill_between(points, lowest, highest, color=color, alpha=0.2, linewidth=0)
        means = [sum(v) / len(v) for v in values]
        axis.plot(points, means, color=color, marker="o", markersize=3, label=title)
        if title == baseline:
            ends = [curve[max(curve)] for curve in by_seed.values()]
            axis.axhline(
                sum(ends) / len(ends), color="black", linestyle="--", linewidth=1.2, label=f"{title}, at the end"
            )
    axis.set(xlabel="iterations", ylabel=metric, xlim=(0, None), ylim=(0, None))
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=min(len(curves) + 1, 4), frameon=False)
    save_figure(figure, path)
