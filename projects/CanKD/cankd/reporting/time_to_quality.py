"""After how much training a student has what the baseline, most often the student alone, ends with."""

import statistics
from collections.abc import Mapping

__all__ = ["iterations_to_quality", "quality_table"]

Curves = Mapping[str, Mapping[int, Mapping[int, float]]]


def iterations_to_quality(curves: Curves, baseline: str) -> dict[str, dict[int, int | None]]:
    """Returns after how many iterations a run first had the final metric of the baseline with the same seed.

    It is the first evaluation that shows it, so a multiple of ``train.eval_period``; None where none does. The baseline
    has the number of its last one. A method without a seed in common with it is left out.

    Args:
        curves: map from method to seed to the metric by iterations.
        baseline: title of the method that the others are compared with.
    """
    found = {baseline: {seed: max(curve) for seed, curve in curves[baseline].items()}}
    goals = {seed: curves[baseline][seed][last] for seed, last in found[baseline].items()}
    for title, by_seed in curves.items():
        common = by_seed.keys() & goals.keys()
        if title != baseline and common:
            reached = {
                seed: [i for i, value in by_seed[seed].items() if value >= goals[seed]] for seed in sorted(common)
            }
            found[title] = {seed: min(iterations, default=None) for seed, iterations in reached.items()}
    return found


def quality_table(comparison: Mapping, task: str) -> tuple[list[list[str]], list[str]] | None:
    """Returns :func:`iterations_to_quality` as rows of text and headers, with the shares of the baseline's training.

    None where nothing was evaluated on the way.

    Args:
        comparison: contents of ``methods.json``, see :func:`cankd.reporting.method_tables.write_comparison`.
        task: a key of its "tasks".
    """
    found = comparison["tasks"][task].get("iterations_to_quality")  # older files have none
    if not found:
        return None
    rows = []
    baseline = comparison["baseline"]
    whole = found[baseline]
    for title, by_seed in found.items():
        if title == baseline:
            continue
        iterations = list(by_seed.values())
        share = None if None in iterations else statistics.mean(i / whole[seed] for seed, i in by_seed.items())
        time = comparison["costs"][title]["time"]
        rows.append(
            [
                title,
                ", ".join("–" if i is None else str(i) for i in iterations),
                "–" if share is None else f"{share:.0%}",
                "–" if share is None or not time else f"{share * time:.0%}",
            ]
        )
    whose = "the student's" if baseline == "alone" else f"{baseline}'s"
    return rows, ["", "iterations by seed", f"share of {whose}", "share of its time"]
