"""What the metrics of corrupted images sum up to: mPC and rPC (Michaelis et al. 2019; table 1 of the supplement)."""

import statistics
from collections.abc import Mapping

from cankd.data import Cell

from .metrics import value_or_zero

__all__ = ["Grid", "mean_corruption_error", "metric_of", "severity_means", "summarize_robustness"]

Grid = Mapping[Cell, Mapping[str, Mapping[str, float]]]
"""Results of each cell, as an evaluator gives them: map from task to metrics."""


def metric_of(grid: Grid, cell: Cell, task: str, metric: str) -> float:
    """Returns a cell's metric. Where nothing at all was detected, which Detectron2 calls NaN, it is 0."""
    return value_or_zero(grid[cell][task][metric])


def summarize_robustness(grid: Grid, task: str, metric: str) -> dict[str, float | None]:
    """Sums up a grid.

    Args:
        grid: of one model.
        task: a key of :data:`ROBUSTNESS_METRICS`.
        metric: of the task, in per cent.

    Returns:
        "clean", the metric of the clean images; "mPC", its mean over the corrupted cells of severities 1 to 5; "rPC",
        100 mPC / clean. What cannot be computed, for want of clean or of corrupted images, is None; rPC also where
        clean is 0.
    """
    clean = metric_of(grid, Cell("clean", 0), task, metric) if Cell("clean", 0) in grid else None
    corrupted = [metric_of(grid, cell, task, metric) for cell in grid if cell.severity > 0]
    mean = statistics.mean(corrupted) if corrupted else None
    ratio = 100 * mean / clean if clean and mean is not None else None
    return {"clean": clean, "mPC": mean, "rPC": ratio}


def mean_corruption_error(grid: Grid, baseline: Grid, task: str, metric: str) -> float | None:
    """Returns the mean corruption error, a model's over a baseline's, in per cent (Hendrycks & Dietterich 2019).

    They divide by the errors of AlexNet; here it is any model. Of each corruption the errors are summed over the
    severities that there are, and divided; the mean is that of the ratios.

    Args:
        grid, baseline: with the same cells.
        task: a key of :data:`ROBUSTNESS_METRICS`.
        metric: of the task, in per cent; the error is what it lacks of 100.

    Returns:
        None without corrupted images, and where the baseline makes no error.
    """

    def error(of, corruption):
        return sum(100 - metric_of(of, cell, task, metric) for cell in of if cell.corruption == corruption)

    corruptions = {cell.corruption for cell in grid if cell.severity}
    errors = [(error(grid, corruption), error(baseline, corruption)) for corruption in corruptions]
    if not errors or not all(of_baseline for _, of_baseline in errors):
        return None
    return 100 * statistics.mean(own / of_baseline for own, of_baseline in errors)


def severity_means(grid: Grid, task: str, metric: str, corruptions: tuple[str, ...]) -> dict[int, float]:
    """Returns the mean metric over some corruptions by severity; the clean images, if there, are severity 0."""
    means = {}
    for severity in sorted({cell.severity for cell in grid}):
        wanted = [cell for cell in grid if cell.severity == severity and cell.corruption in (*corruptions, "clean")]
        if wanted:
            means[severity] = statistics.mean(metric_of(grid, cell, task, metric) for cell in wanted)
    return means
