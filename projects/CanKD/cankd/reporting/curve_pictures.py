import os
import re
from collections.abc import Mapping

from cankd.evaluation import METRICS
from cankd.visualization import draw_curves

from .files import make_output_dir, write_json

__all__ = ["plot_runs"]

_LEVEL_PANELS = {"distillation loss, {}": r"loss_cankd_(.+)", "correlation, {}": r"\[metric\]correlation_(.+)"}


def plot_runs(curves: Mapping[str, Mapping], path: str, *, teacher: float | None = None, metric: str = "") -> None:
    """Plots training runs together: metric, losses, and by level distillation losses and correlations (figure 3).

    Args:
        curves: map from name to what :func:`cankd.engine.read_curves` gives of a run.
        path: PNG file; the numbers go beside it, as JSON.
        teacher: value of the metric to draw as a line.
        metric: for example "bbox/AP50"; the first of bbox/AP, segm/AP and sem_seg/mIoU that there is, if not given.

    Raises:
        ValueError: if no run has the metric, there is nothing to plot, or the directory cannot be written.
    """
    make_output_dir(os.path.dirname(path))
    found = {key for of_run in curves.values() for key in of_run}
    if metric and metric not in found:
        scores = sorted(key for key in found if "/" in key)
        raise ValueError(f"no run has the metric {metric!r}; found are {', '.join(scores) or 'no evaluations at all'}")
    known = [f"{task}/{name}" for task, names in METRICS.items() for name in names]
    metric = metric or next((name for name in known if name in found), "")
    panels = [[]]
    if metric:
        panels[0].append((metric, _collect(curves, metric)))
    task = {name: _task_loss(of_run) for name, of_run in curves.items() if "total_loss" in of_run}
    if task:
        panels[0].append(("task loss", task))
    for title, pattern in _LEVEL_PANELS.items():
        levels = sorted({match[1] for key in found if (match := re.fullmatch(pattern, key))})
        keys = {level: pattern.replace("(.+)", level).replace("\\", "") for level in levels}
        if levels:
            panels.append([(title.format(level), _collect(curves, key)) for level, key in keys.items()])
    panels = [row for row in panels if row]
    if not panels:
        raise ValueError(f"{', '.join(curves)}: no losses and no evaluations are there to plot")
    draw_curves(path, panels, lines={"teacher": teacher} if teacher is not None and metric else {})
    numbers = {title: _by_iteration(of_runs) for row in panels for title, of_runs in row}
    write_json(f"{os.path.splitext(path)[0]}.json", {"teacher": teacher, "curves": numbers})


def _collect(curves, key):
    return {name: of_run[key] for name, of_run in curves.items() if key in of_run}


def _task_loss(of_run):
    """The total loss without the distillation's, so that a student alone and a distilled one can be compared."""
    distillation = [curve for key, curve in of_run.items() if key.startswith("loss_cankd_")]
    return {i: total - sum(curve.get(i, 0.0) for curve in distillation) for i, total in of_run["total_loss"].items()}


def _by_iteration(of_runs):
    return {name: {str(i): value for i, value in curve.items()} for name, curve in of_runs.items()}
