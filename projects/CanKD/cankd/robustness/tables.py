import csv
import os
from collections.abc import Mapping

from cankd.data import CORRUPTION_GROUPS
from cankd.evaluation import (
    ROBUSTNESS_METRICS,
    Grid,
    mean_corruption_error,
    metric_of,
    severity_means,
    summarize_robustness,
)
from cankd.utils import UserError, escape_markdown, markdown_table, replace_file, write_json
from cankd.visualization import draw_severity_curves

__all__ = ["compare_robustness"]


def compare_robustness(grids: Mapping[str, Grid], output_dir: str, *, command: str = "") -> str:
    """Writes how models compare on corrupted images: tables as robustness.md, .json and .csv, curves as a PNG a task.

    The JSON has the tables as they are shown, all results by cell, and what these sum up to.

    Args:
        grids: map from model name to its results by cell.
        output_dir: where the files go.
        command: that made them, to be named in the Markdown.

    Returns:
        The Markdown.

    Raises:
        UserError: if the models have no task in common, were evaluated on different cells, or the files cannot be
            written.
    """
    tasks = _common_metrics(grids)
    summary = {
        task: {name: {m: summarize_robustness(grid, task, m) for m in metrics} for name, grid in grids.items()}
        for task, metrics in tasks.items()
    }
    first = next(iter(grids))
    for name, found in summary.get("classification", {}).items():
        found["top1"]["mCE"] = mean_corruption_error(grids[name], grids[first], "classification", "top1")
    tables = {task: [_summary_table(task, summary[task])] for task in tasks}
    if any(cell.severity for grid in grids.values() for cell in grid):
        for task, metrics in tasks.items():
            tables[task] += [_severity_table(name, grid, task, metrics[0]) for name, grid in grids.items()]
    page = {"command": command, "remarks": list(_remarks(grids, tasks)), "tables": tables}
    text = _as_markdown(**page)
    path = os.path.join(output_dir, "robustness")
    try:
        os.makedirs(output_dir, exist_ok=True)
        for task, metrics in tasks.items():
            _draw(grids, task, metrics[0], f"{path}_{task}.png")
        with replace_file(f"{path}.csv", "w") as f:
            _write_csv(f, grids, tasks)
        cells = {name: {str(cell): results for cell, results in grid.items()} for name, grid in grids.items()}
        write_json(f"{path}.json", {**page, "summary": summary, "cells": cells})
        with replace_file(f"{path}.md", "w") as f:
            f.write(text)
    except OSError as error:
        raise UserError(f"{path}.* cannot be written: {error.strerror or error}") from error
    return text


def _common_metrics(grids):
    """Returns, for each task, the metrics that all models have in all cells."""
    cells = {name: set(grid) for name, grid in grids.items()}
    first, *others = cells
    for name in others:
        if differing := cells[first] ^ cells[name]:
            lists = (
                f"{len(cells[first])} and {len(cells[name])} cells, {len(differing)} of them in one only, for example"
            )
            raise UserError(
                f"{first} and {name} were not evaluated on the same corruptions and severities: {lists} "
                f"{min(differing)}. Run --coco-c for both with the same --corruptions and --severities"
            )
    results = [results for grid in grids.values() for results in grid.values()]
    common = {
        task: [metric for metric in metrics if all(metric in found.get(task, ()) for found in results)]
        for task, metrics in ROBUSTNESS_METRICS.items()
    }
    if common := {task: metrics for task, metrics in common.items() if metrics}:
        return common
    found = sorted({f"{task}/{metric}" for each in results for task, metrics in each.items() for metric in metrics})
    raise UserError(
        f"the models have no metric in common that is known here; found are {', '.join(found[:12])}"
        f"{' …' if len(found) > 12 else ''}"
    )


def _as_markdown(command, remarks, tables):
    parts = ["# Robustness to corruptions", *([f"`{command}`"] if command else [])]
    for task, (summary, *by_severity) in tables.items():
        parts += [f"## {task}", markdown_table(summary["rows"], summary["headers"]), *remarks]
        if by_severity:
            parts += [f"![](robustness_{task}.png)"]
        for table in by_severity:
            parts += [f"### {escape_markdown(table['title'])}", markdown_table(table["rows"], table["headers"])]
    return "\n\n".join(parts) + "\n"


def _summary_table(task, summary):
    headers = ["", *(f"{metric} {key}" for metric, found in next(iter(summary.values())).items() for key in found)]
    rows = [
        [name, *(_format(value) for found in metrics.values() for value in found.values())]
        for name, metrics in summary.items()
    ]
    return {"title": task, "headers": headers, "rows": rows}


def _remarks(grids, tasks):
    """Yields how to read the figures, and what keeps them from being those of the benchmark."""
    if "classification" in tasks:
        yield (
            f"mCE, the mean corruption error, divides by the errors of {next(iter(grids))}; published ones divide by "
            "those of AlexNet. Images are corrupted before they are resized and cropped, those of ImageNet-C after it."
        )
    cells = list(next(iter(grids.values())))
    severities = sorted({cell.severity for cell in cells} - {0})
    corruptions = {cell.corruption for cell in cells if cell.severity}
    if not any(cell.severity == 0 for cell in cells):
        yield "rPC needs the clean images: add 0 to --severities."
    benchmark = {name for group, names in CORRUPTION_GROUPS.items() if group != "extra" for name in names}
    if not corruptions:
        yield "mPC needs corrupted images: add 1 to 5 to --severities."
    elif corruptions != benchmark or severities != [1, 2, 3, 4, 5]:
        means = f"{len(corruptions)} corruptions ({', '.join(sorted(corruptions))}) at severities {severities}"
        yield f"mPC is not the benchmark's: it averages {means}, not 15 corruptions at severities 1 to 5."


def _severity_table(name, grid, task, metric):
    severities = sorted({cell.severity for cell in grid} - {0})
    rows = []
    for corruption in dict.fromkeys(cell.corruption for cell in grid if cell.severity):
        found = {cell.severity: metric_of(grid, cell, task, metric) for cell in grid if cell.corruption == corruption}
        rows.append([corruption, *(_format(found.get(severity)) for severity in severities)])
    headers = ["", *(f"severity {severity}" for severity in severities)]
    return {"title": f"{name}, {metric}", "headers": headers, "rows": rows}


def _format(value):
    return "–" if value is None else f"{value:.1f}"


def _draw(grids, task, metric, path):
    curves = {
        group: {name: severity_means(grid, task, metric, corruptions) for name, grid in grids.items()}
        for group, corruptions in CORRUPTION_GROUPS.items()
        if any(cell.corruption in corruptions for grid in grids.values() for cell in grid)
    }
    if curves:
        draw_severity_curves(path, curves, metric)


def _write_csv(f, grids, tasks):
    writer = csv.writer(f)
    writer.writerow(["model", "task", "corruption", "severity", "metric", "value"])
    for name, grid in grids.items():
        for cell in grid:
            for task, metrics in tasks.items():
                for metric in metrics:
                    writer.writerow([name, task, *cell, metric, metric_of(grid, cell, task, metric)])
