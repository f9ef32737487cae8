import math
from collections.abc import Mapping

from cankd.evaluation import METRICS
from cankd.utils import markdown_table, spread

__all__ = ["box_metrics_table", "gap_closed"]


def gap_closed(student: float, distilled: float, teacher: float) -> float:
    """Returns which share of the distance from student to teacher the distilled student made; NaN if there is none."""
    return (distilled - student) / (teacher - student) if teacher > student else math.nan


def box_metrics_table(results: Mapping[str, Mapping[str, float]], *, student: str, teacher: str) -> str:
    """Makes a Markdown table of box metrics.

    Args:
        results: map from row title to metrics in per cent.
        student, teacher: titles of the rows that the share of the gap closed refers to.

    Returns:
        The table; "–" where a metric is not defined, as APl is where no object is larger than 96×96 pixels.
    """
    names = [name for name in METRICS["bbox"] if name in results[student]]
    rows = []
    for title, metrics in results.items():
        values = [metrics[name] for name in names]
        share = gap_closed(results[student]["AP"], metrics["AP"], results[teacher]["AP"])
        is_end = title in (student, teacher) or math.isnan(share)
        rows.append([title, *(spread([v]) for v in values), "" if is_end else f"{share:.0%}"])
    return markdown_table(rows, ["", *names, "gap closed"])
