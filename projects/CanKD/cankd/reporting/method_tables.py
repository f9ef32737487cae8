import os
import statistics
from collections.abc import Mapping

from cankd.evaluation import METRICS
from cankd.utils import markdown_table, replace_file, spread, write_json
from scipy import stats

from .comparison import gap_closed

__all__ = ["metric_value", "paired_difference", "verdict", "write_comparison"]

Results = Mapping[str, Mapping[int, Mapping]]


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float, float] | None:
    """Returns the mean of ``one - other`` seed by seed and the ends of its 95 % interval, by Student's t.

    None where fewer than two seeds are common: one pair has no spread.
    """
    differences = [one[seed] - other[seed] for seed in one if seed in other]
    if len(differences) < 2:
        return None
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return statistics.mean(differences), float(interval.low), float(interval.high)


def metric_value(result: Mapping, task: str, metric: str) -> float:
    """Returns a run's metric. Where nothing at all was detected, which Detectron2 calls NaN, it is 0."""
    value = result["metrics"][task][metric]
    return 0.0 if value is None or value != value else value


def verdict(values: Mapping[str, Mapping[int, float]], baseline: str, metric: str) -> str:
    """Says in plain words which methods help, and which of them cannot be told apart from the best.

    Args:
        values: map from method to the metric by seed.
        baseline: the student alone.
        metric: its name.
    """
    methods = [title for title in values if title != baseline]
    if not methods:
        return "The student was trained alone: name methods to compare with it."
    seeds = len(values[baseline])
    if seeds < 2:
        return "One seed says nothing about its spread: give several by --seeds."
    best = max(methods, key=lambda title: statistics.mean(values[title].values()))
    gain = paired_difference(values[best], values[baseline])
    if gain[1] <= 0:
        return (
            f"After {seeds} seeds no method can be told apart from the student alone: the best, {best}, gains "
            f"{_interval(gain)} {metric}."
        )
    alike = [title for title in methods if title != best and paired_difference(values[best], values[title])[1] <= 0]
    text = f"{best} gains {_interval(gain)} {metric} over the student alone."
    if alike:
        text += f" After {seeds} seeds it cannot be told apart from {_list(alike)}."
    if worse := [t for t in methods if t != best and t not in alike]:
        text += f" It is better than {_list(worse)}."
    return text


def _list(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _interval(difference):
    mean, low, high = difference
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def write_comparison(
    results: Results, teacher: Mapping, baseline: str, output_dir: str, *, iterations: int, command: str
) -> str:
    """Writes the comparison as ``methods.md`` and ``methods.json``.

    Args:
        results: map from method to seed to what its run has written: "metrics" by task, "seconds" and "memory" a step.
        teacher: its metrics by task.
        baseline: title of the student alone.
        output_dir: where the files go.
        iterations, command: how it was made.

    Returns:
        The Markdown.
    """
    parts = [f"# Methods compared\n\n{f'`{command}`: ' if command else ''}{iterations} iterations."]
    summary = {}
    for task in (task for task in METRICS if task in teacher):
        metric = next(name for name in METRICS[task] if name in teacher[task])
        values = {
            title: {seed: metric_value(result, task, metric) for seed, result in by_seed.items()}
            for title, by_seed in results.items()
        }
        text = verdict(values, baseline, metric)
        parts += [text, _table(results, values, teacher[task][metric], baseline, metric)]
        summary[task] = {"metric": metric, "values": values, "teacher": teacher[task][metric], "verdict": text}
    parts += [
        "Gains are taken seed by seed, with the 95 % interval of their mean by Student's t. Time is that of a training "
        "step and memory that of the process, against the student alone."
    ]
    markdown = "\n\n".join(parts) + "\n"
    with replace_file(os.path.join(output_dir, "methods.md"), "w") as f:
        f.write(markdown)
    write_json(os.path.join(output_dir, "methods.json"), {"command": command, "tasks": summary})
    return markdown


def _table(results, values, teacher, baseline, metric):
    mean = {title: statistics.mean(by_seed.values()) for title, by_seed in values.items()}
    rows = []
    for title, by_seed in values.items():
        gain = None if title == baseline else paired_difference(by_seed, values[baseline])
        share = gap_closed(mean[baseline], mean[title], teacher)
        rows.append(
            [
                title,
                ", ".join(f"{value:.1f}" for value in by_seed.values()),
                spread(by_seed.values()),
                "" if gain is None else _interval(gain),
                "" if title == baseline else f"{share:.0%}",
                *(_ratio(results, title, baseline, key) for key in ("seconds", "memory")),
            ]
        )
    rows.append(["teacher", "", f"{teacher:.1f}", "", "", "", ""])
    headers = ["", f"{metric} by seed", metric, "gain", "gap closed", "time", "memory"]
    return markdown_table(rows, headers)


def _ratio(results, title, baseline, key):
    pairs = [(result[key], results[baseline][seed][key]) for seed, result in results[title].items()]
    ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
    return f"{statistics.median(ratios):.2f}" if ratios else "–"
