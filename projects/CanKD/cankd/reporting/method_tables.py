import contextlib
import math
import os
import statistics
from collections.abc import Mapping

from cankd.evaluation import METRICS, TASK_TITLES, main_metric, value_or_zero
from cankd.utils import UserError, markdown_table, read_record, replace_file, spread, write_json
from cankd.visualization import draw_method_curves, draw_method_points
from scipy import stats

from .comparison import gap_closed
from .time_to_quality import iterations_to_quality, quality_table

__all__ = ["comparison_table", "paired_difference", "quality_caption", "verdict", "write_comparison"]

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


def _metric_value(result: Mapping, task: str, metric: str) -> float:
    """Returns a run's metric. Where nothing at all was detected, which Detectron2 calls NaN, it is 0."""
    return value_or_zero(result["metrics"].get(task, {}).get(metric))


def verdict(values: Mapping[str, Mapping[int, float]], baseline: str, metric: str) -> str:
    """Says in plain words which methods help or harm, and which of them cannot be told apart from the best.

    Args:
        values: map from method to the metric by seed.
        baseline: title of the method that the others are compared with.
        metric: its name.
    """
    called = _in_words(baseline)
    methods = [title for title in values if title != baseline]
    if not methods:
        return f"Nothing is compared with {called}: name methods."
    seeds = len(values[baseline])
    if seeds < 2:
        return "One seed says nothing about its spread: give several by --seeds."
    best = max(methods, key=lambda title: statistics.mean(values[title].values()))
    gains = {title: paired_difference(values[title], values[baseline]) for title in methods}
    if gains[best][1] > 0:
        text = _compare_with_best(values, best, methods, gains[best], metric, called)
    else:
        text = (
            f"After {seeds} seeds no method is better than {called} beyond chance: the best, {best}, gains "
            f"{_interval(gains[best])} {metric}."
        )
    if harmful := [title for title in methods if gains[title][2] < 0]:
        text += f" Worse than {called}: {_list(harmful)}."
    return text


def _compare_with_best(values, best, methods, gain, metric, called):
    text = f"{best} gains {_interval(gain)} {metric} over {called}."
    others = [title for title in methods if title != best]
    alike = [title for title in others if paired_difference(values[best], values[title])[1] <= 0]
    if alike:
        text += f" After {len(values[best])} seeds it cannot be told apart from {_list(alike)}."
    if worse := [title for title in others if title not in alike]:
        text += f" It is better than {_list(worse)}."
    return text


def _in_words(baseline):
    return "the student alone" if baseline == "alone" else baseline


def _list(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _interval(difference):
    mean, low, high = difference
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def write_comparison(
    results: Results, teacher: Mapping, baseline: str, output_dir: str, *, iterations: int, command: str
) -> str:
    """Writes the comparison as ``methods.md`` and ``methods.json``, and its first task as ``methods.png``.

    Where the baseline was evaluated on the way, too, the time to its quality is added, and ``methods_curves.png``.

    Args:
        results: map from method to seed to what its run has written: "metrics" by task, "seconds" and "memory" a step,
            and "curves" of the metrics if it was evaluated on the way.
        teacher: its metrics by task; empty if it was not evaluated.
        baseline: title of the method that the others are compared with.
        output_dir: where the files go.
        iterations, command: how it was made.

    Returns:
        The Markdown.

    Raises:
        UserError: if no run has a metric that can be compared.
    """
    found = [task for by_seed in results.values() for result in by_seed.values() for task in result["metrics"]]
    if not (tasks := [task for task in METRICS if task in found]):
        raise UserError(
            f"the runs have metrics of {', '.join(dict.fromkeys(found)) or 'nothing'}, and none of {', '.join(METRICS)}"
        )
    known = _known_costs(os.path.join(output_dir, "methods.json"))
    comparison = {
        "command": command,
        "baseline": baseline,
        "costs": {title: _costs(results, title, baseline, known.get(title, {})) for title in results},
        "tasks": {task: _summarize(results, teacher, baseline, task) for task in tasks},
    }
    parts = [f"# Methods compared\n\n{f'`{command}`: ' if command else ''}{iterations} iterations."]
    for task, summary in comparison["tasks"].items():
        if len(comparison["tasks"]) > 1:
            parts.append(f"## {TASK_TITLES[task]}")
        parts += [summary["verdict"], markdown_table(*comparison_table(comparison, task))]
        if table := quality_table(comparison, task):
            parts += [quality_caption(comparison, task), markdown_table(*table)]
    parts += [
        "Gains are taken seed by seed, with the 95 % interval of their mean by Student's t. Time is that of a training "
        f"step and memory that of the process, against {_in_words(baseline)}."
    ]
    markdown = "\n\n".join(parts) + "\n"
    with replace_file(os.path.join(output_dir, "methods.md"), "w") as f:
        f.write(markdown)
    write_json(os.path.join(output_dir, "methods.json"), comparison)
    task, first = next(iter(comparison["tasks"].items()))
    draw_method_points(os.path.join(output_dir, "methods.png"), first["values"], first["metric"], first["teacher"])
    if "iterations_to_quality" in first:
        curves = _evaluation_curves(results, f"{task}/{first['metric']}")
        draw_method_curves(os.path.join(output_dir, "methods_curves.png"), curves, first["metric"], baseline)
    return markdown


def _summarize(results, teacher, baseline, task):
    metrics = [result["metrics"].get(task, {}) for by_seed in results.values() for result in by_seed.values()]
    metric = main_metric(task, max(metrics, key=len))  # a run that detects nothing has none of masks
    values = {
        title: {seed: _metric_value(result, task, metric) for seed, result in by_seed.items()}
        for title, by_seed in results.items()
    }
    of_teacher = _metric_value({"metrics": teacher}, task, metric) if task in teacher else None
    found = {"metric": metric, "values": values, "teacher": of_teacher}
    found["verdict"] = verdict(values, baseline, metric)
    curves = _evaluation_curves(results, f"{task}/{metric}")
    if baseline in curves:
        found["iterations_to_quality"] = iterations_to_quality(curves, baseline)
    return found


def _evaluation_curves(results, name):
    """Returns the metric by method, seed and iterations, of the methods that were all evaluated on the way."""
    return {
        title: {
            seed: {int(iterations): value_or_zero(value) for iterations, value in result["curves"][name].items()}
            for seed, result in by_seed.items()
        }
        for title, by_seed in results.items()
        if all(name in result.get("curves", {}) for result in by_seed.values())
    }


def _known_costs(path):
    """Returns the costs of the comparison that is there: results from elsewhere may come without their times."""
    with contextlib.suppress(UserError):  # damaged
        if found := read_record(path, {"costs": dict}):
            return found["costs"]
    return {}


def _costs(results, title, baseline, known):
    """Returns time and memory against the baseline's, None where they were not measured and are not known."""
    costs = {}
    for name, key in (("time", "seconds"), ("memory", "memory")):
        pairs = [(result[key], results[baseline][seed][key]) for seed, result in results[title].items()]
        ratios = [ours / theirs for ours, theirs in pairs if ours and theirs]
        costs[name] = statistics.median(ratios) if ratios else known.get(name)
    return costs


def quality_caption(comparison: Mapping, task: str) -> str:
    """Returns what the table of :func:`cankd.reporting.time_to_quality.quality_table` shows."""
    metric, baseline = comparison["tasks"][task]["metric"], _in_words(comparison["baseline"])
    return f"Iterations until a method first has the {metric} that {baseline} ends with, seed by seed:"


def comparison_table(comparison: Mapping, task: str) -> tuple[list[list[str]], list[str]]:
    """Returns the rows of a task's table, as text, and its headers.

    Args:
        comparison: contents of ``methods.json``, see :func:`write_comparison`.
        task: a key of its "tasks".
    """
    summary = comparison["tasks"][task]
    values, metric, teacher = summary["values"], summary["metric"], summary["teacher"]
    baseline, costs = comparison.get("baseline", "alone"), comparison.get("costs", {})  # older files have neither
    mean = {title: statistics.mean(by_seed.values()) for title, by_seed in values.items()}
    rows = []
    for title, by_seed in values.items():
        gain = None if title == baseline else paired_difference(by_seed, values[baseline])
        share = math.nan if teacher is None else gap_closed(mean[baseline], mean[title], teacher)
        ratios = costs.get(title, {})
        rows.append(
            [
                title,
                ", ".join(f"{value:.1f}" for value in by_seed.values()),
                spread(by_seed.values()),
                "" if gain is None else _interval(gain),
                "" if title == baseline or math.isnan(share) else f"{share:.0%}",
                *(f"{ratios[key]:.2f}" if ratios.get(key) else "–" for key in ("time", "memory")),
            ]
        )
    if teacher is not None:
        rows.append(["teacher", "", f"{teacher:.1f}", "", "", "", ""])
    return rows, ["", f"{metric} by seed", metric, "gain", "gap closed", "time", "memory"]
