"""Figures as text."""

import statistics
from collections.abc import Iterable, Sequence

from tabulate import tabulate

__all__ = ["escape_markdown", "markdown_table", "spread"]


def escape_markdown(text: str) -> str:
    """Returns a text that Markdown shows as it is, in a table too: without tags and columns of its own."""
    return text.replace("<", "&lt;").replace("|", r"\|").replace("\n", " ")


def markdown_table(rows: Sequence[Sequence[object]], headers: Sequence[str], *, left: int = 1) -> str:
    """Returns a Markdown table, its cells escaped by :func:`escape_markdown`.

    Args:
        rows: with a cell for each header.
        headers: of the columns.
        left: how many columns, from the first on, stand to the left; figures stand to the right.
    """
    rows = [[escape_markdown(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    align = ["left" if column < left else "right" for column in range(len(headers))]
    return tabulate(rows, headers, "pipe", colalign=align, disable_numparse=True)


def spread(values: Iterable[float]) -> str:
    """Returns mean and, of several values, sample standard deviation as text; NaN does not count, and alone is "–"."""
    values = [value for value in values if value == value]
    if not values:
        return "–"
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"
