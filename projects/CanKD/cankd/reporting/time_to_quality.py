"""After how much training a distilled student has what the student alone ends with."""

import statistics
from collections.abc import Mapping

__all__ = ["iterations_to_quality", "quality_table"]

Curves = Mapping[str, Mapping[int, Mapping[int, float]]]


def iterations_to_quality(curves: Curves, baseline: str) -> dict[str, dict[int, int | None]]:
    """Returns after how many iterations a run first had the final metric of the student alone with the same seed.

    It is the first evaluation that shows it, so a multiple of ``train.eval_period``; None where none does.

    Args:
        curves: map from method to seed to the metric by iterations.
        baseline: title of the student alone.
    """
    goals = {seed: curve[max(curve)] for seed, curve in curves[baseline].items()}
    return {
        title: {
            seed: next((i for i, value in sorted(curve.items()) if value >= goals[seed]), None)
            for seed, curve in by_seed.items()
            if seed in goals
        }
        for title, by_seed in curves.items()
        if title != baseline
    }


def quality_table(comparison: Mapping, task: str) -> tuple[list[list[str]], list[str]] | None:
    """Returns :func:`iterations_to_quality` as rows of text and headers, with the shares of the student's training.

    None where nothing was evaluated on the way.

    Args:
        comparison: contents of ``methods.json``, see :func:`cankd.reporting.method_tables.write_comparison`.
        task: a key of its "tasks".
    """
    found = comparison["tasks"][task].get("iterations_to_quality")  # older files have none
    if not found:
        return None
    rows = []
    for title, by_seed in found.items():
        iterations = list(by_seed.values())
        share = None if None in iterations else statistics.mean(iterations) / comparison["iterations"]
        time = comparison["costs"][title]["time"]
        rows.append(
            [
                title,
                ", ".join("–" if i is None else str(i) for i in iterations),
                "–" if share is None else f"{share:.0%}",
                "–" if share is None or not time else f"{share * time:.0%}",
            ]
        )
    return rows, ["", "iterations by seed", "share of the student's", "share of its time"]
