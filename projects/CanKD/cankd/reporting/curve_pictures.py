import os
from collections.abc import Mapping

from cankd.evaluation import first_metric
from cankd.utils import UserError, make_output_dir, write_json
from cankd.visualization import draw_curves

from .run_metrics import Curves

__all__ = ["plot_runs"]

_RUN_FILES = ("begun_with", "distillation_losses", "evaluations", "metrics", "results")  # what a run writes as JSON
_CORRELATION = "[metric]correlation_"


def plot_runs(curves: Mapping[str, Curves], path: str, *, teacher: float | None = None, metric: str = "") -> None:
    """Plots training runs together: metric, losses, and by level distillation losses and correlations (figure 3).

    Args:
        curves: map from name to what :func:`cankd.reporting.read_curves` gives of a run.
        path: PNG file; the numbers go beside it, as JSON.
        teacher: value of the metric to draw as a line.
        metric: for example "bbox/AP50"; if not given, the first that there is, as bbox/AP.

    Raises:
        UserError: if no run has the metric, there is nothing to plot, or the directory cannot be written; if the JSON
            would take the place of a run's.
    """
    make_output_dir(os.path.dirname(path))
    stem, suffix = os.path.splitext(path)
    if suffix == ".json" or os.path.basename(stem) in _RUN_FILES:
        raise UserError(f"the numbers beside {path} would replace {stem}.json: choose another file name")
    found = {key for of_run in curves.values() for key in of_run}
    if metric and metric not in found:
        scores = sorted(key for key in found if "/" in key)
        raise UserError(f"no run has the metric {metric!r}; found are {', '.join(scores) or 'no evaluations at all'}")
    metric = metric or first_metric(found)
    panels = [[]]
    if metric:
        panels[0].append((metric, _collect(curves, metric)))
    task = {name: _task_loss(of_run) for name, of_run in curves.items() if "total_loss" in of_run}
    if task:
        panels[0].append(("task loss", task))
    levels = sorted({level for of_run in curves.values() for level in of_run.distillation_losses})
    panels.append([(f"distillation loss, {level}", _distillation_losses(curves, level)) for level in levels])
    levels = sorted(key.removeprefix(_CORRELATION) for key in found if key.startswith(_CORRELATION))
    panels.append([(f"correlation, {level}", _collect(curves, _CORRELATION + level)) for level in levels])
    panels = [row for row in panels if row]
    if not panels:
        raise UserError(f"{', '.join(curves)}: no losses and no evaluations are there to plot")
    draw_curves(path, panels, lines={"teacher": teacher} if teacher is not None and metric else {})
    numbers = {title: _by_iteration(of_runs) for row in panels for title, of_runs in row}
    write_json(f"{stem}.json", {"teacher": teacher, "curves": numbers})


def _collect(curves, key):
    return {name: of_run[key] for name, of_run in curves.items() if key in of_run}


def _distillation_losses(curves, level):
    """Returns the sum of a level's losses, of each run that distils it."""
    return {
        name: _sum(of_run, of_run.distillation_losses[level])
        for name, of_run in curves.items()
        if any(loss in of_run for loss in of_run.distillation_losses.get(level, ()))
    }


def _task_loss(of_run):
    """The sum of all losses but the distillation's, so that a student alone and a distilled one can be compared.

    What Detectron2 writes are medians over some iterations, and a difference of medians can be far off. It is taken
    only of models that call their losses otherwise.
    """
    distillation = {name for names in of_run.distillation_losses.values() for name in names}
    if task := [name for name in of_run if name.startswith("loss") and name not in distillation]:
        return _sum(of_run, task)
    whole = _sum(of_run, distillation)
    return {i: total - whole.get(i, 0.0) for i, total in of_run["total_loss"].items()}


def _sum(of_run, names):
    total = {}
    for name in names:
        for i, value in of_run.get(name, {}).items():
            total[i] = total.get(i, 0.0) + value
    return total


def _by_iteration(of_runs):
    return {name: {str(i): value for i, value in curve.items()} for name, curve in of_runs.items()}
