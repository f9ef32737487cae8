"""One page about training runs."""

import base64
import fnmatch
import hashlib
import json
import os
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import jinja2
from cankd.evaluation import METRICS, TASK_TITLES
from cankd.utils import UserError, replace_file, spread
from tabulate import tabulate

from .curve_pictures import plot_runs
from .method_tables import comparison_table, quality_caption
from .run_metrics import read_curves
from .time_to_quality import quality_table

__all__ = ["make_report"]

# Section of a picture by its file's name, the first that fits.
_PICTURES = {
    "Methods compared": ("methods.png", "methods_curves.png"),
    "Detections and segmentations": ("*detections*.png", "*predictions*.png"),
    "Confusion matrices": ("*confusion*.png",),
    "Features": ("*_feature.png", "*_difference.png", "*_correlation.png"),
    "Attention": ("*_attention.png",),
    "Robustness to corruptions": ("robustness*.png",),
    "Other pictures": ("*.png",),
}


class _Picture(NamedTuple):
    caption: str
    data: str  # URI


class _Section(NamedTuple):
    title: str
    html: str = ""
    pictures: Sequence[_Picture] = ()
    texts: Sequence[tuple[str, str]] = ()


def make_report(
    runs: Sequence[tuple[str, str]],
    output_dir: str,
    *,
    include: Sequence[str] = (),
    teacher: float | None = None,
    title: str = "CanKD: report",
) -> str:
    """Gathers what there is about training runs into one HTML page that needs no network and no other file.

    Args:
        runs: names and output directories. Several runs of one name are seeds of one method: they share a row, with
            mean and standard deviation. Pictures and tables that the tools wrote into these directories are taken in.
        output_dir: gets ``report.html``, and ``curves.png`` with its numbers.
        include: more directories to take pictures and tables from.
        teacher: its AP, mIoU or top1, drawn as a line beside the curves.
        title: of the page.

    Returns:
        The path of the page.

    Raises:
        UserError: if a run has no metrics, or the page cannot be written.
    """
    curves = [(name, read_curves(path)) for name, path in runs]
    folders = list(dict.fromkeys([*(path for _, path in runs), *include]))
    if missing := [folder for folder in folders if not os.path.isdir(folder)]:
        raise UserError(f"there is no directory {', '.join(missing)}")
    try:
        os.makedirs(output_dir, exist_ok=True)
        curve_file = os.path.join(output_dir, "curves.png")
        plot_runs(dict(zip(_unique([name for name, _ in runs]), (of for _, of in curves))), curve_file, teacher=teacher)
        sections = [
            _Section("Results", "".join(_result_tables(curves))),
            _Section("Training curves", pictures=[_embed(curve_file, "curves")]),
            *_picture_sections(folders, skip=os.path.realpath(curve_file)),
            _Section("Configs", texts=_configs(runs)),
        ]
        page = _render(title, [section for section in sections if section.html or section.pictures or section.texts])
        path = os.path.join(output_dir, "report.html")
        with replace_file(path, "w") as f:
            f.write(page)
    except OSError as error:
        raise UserError(f"the report cannot be made: {error.filename}: {error.strerror}") from error
    return path


def _render(title, sections):
    folder = jinja2.FileSystemLoader(os.path.dirname(__file__))
    environment = jinja2.Environment(loader=folder, autoescape=True)
    environment.filters["csp_hash"] = _csp_hash
    return environment.get_template("report.html").render(title=title, sections=sections)


def _csp_hash(script):
    """Returns what a Content-Security-Policy names a script by, so that no other one runs."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _result_tables(curves):
    """Yields a heading and a table for each task."""
    for task, heading in TASK_TITLES.items():
        groups = {}
        for name, of_run in curves:
            last = {m: list(of_run[f"{task}/{m}"].values())[-1] for m in METRICS[task] if of_run.get(f"{task}/{m}")}
            if last:
                groups.setdefault(name, []).append(last)
        if groups:
            metrics = [m for m in METRICS[task] if any(m in run for seeds in groups.values() for run in seeds)]
            rows = [
                [name, len(seeds), *(spread([s[m] for s in seeds if m in s]) for m in metrics)]
                for name, seeds in groups.items()
            ]
            yield f"<h3>{heading}</h3>{_table(rows, ['', 'runs', *metrics])}"


def _table(rows, headers):
    table = tabulate(rows, headers, "html", headersglobalalign="right", disable_numparse=True)  # escapes its cells
    return f'<div class="scroll">{table}</div>'


def _picture_sections(folders, skip):
    found, seen = {title: ([], []) for title in _PICTURES}, {skip}
    for path, caption in _files(folders):
        if os.path.realpath(path) in seen:
            continue
        seen.add(os.path.realpath(path))
        name = os.path.basename(path)
        if name in _TABLES:
            title, to_html, tool = _TABLES[name]
            found[title][0].append(_read_tables(path, to_html, tool))
        for title, patterns in _PICTURES.items():
            if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                found[title][1].append(_embed(path, caption))
                break
    for title, (texts, pictures) in found.items():
        yield _Section(title, "".join(texts), pictures)


def _files(folders):
    """Yields the path of each file below some folders, and what to call it."""
    for folder in folders:
        above = os.path.dirname(os.path.normpath(folder))
        for place, subfolders, names in os.walk(folder):
            subfolders.sort()
            for name in sorted(names):
                path = os.path.join(place, name)
                yield path, os.path.relpath(path, above)


def _read_tables(path, to_html, tool):
    """Returns what a tool has written as JSON, as HTML."""
    try:
        with open(path) as f:
            contents = json.load(f)
        command = f"<p><code>{escape(contents['command'])}</code></p>" if contents["command"] else ""
        return command + "".join(to_html(contents))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} holds no tables of {tool} ({type(error).__name__}: {error}): run {tool} again, or remove the file"
        ) from error


def _robustness_tables(contents):
    """Yields what :func:`cankd.robustness.compare_robustness` has written."""
    for summary, *by_severity in contents["tables"].values():
        yield f"<h3>{escape(summary['title'])}</h3>{_table(summary['rows'], summary['headers'])}"
        yield from (f"<p>{escape(remark)}</p>" for remark in contents["remarks"])
        for table in by_severity:
            yield f"<h4>{escape(table['title'])}</h4>{_table(table['rows'], table['headers'])}"


def _method_tables(contents):
    """Yields what :func:`cankd.reporting.compare_methods` has written."""
    for task, summary in contents["tasks"].items():
        yield f"<h3>{TASK_TITLES[task]}</h3><p>{escape(summary['verdict'])}</p>"
        yield _table(*comparison_table(contents, task))
        if table := quality_table(contents, task):
            yield f"<p>{escape(quality_caption(contents, task))}</p>{_table(*table)}"


# Section, content and tool by the name of a JSON file.
_TABLES = {
    "methods.json": ("Methods compared", _method_tables, "tools/compare_methods.py"),
    "robustness.json": ("Robustness to corruptions", _robustness_tables, "tools/compare_robustness.py"),
}


def _embed(path, caption):
    with open(path, "rb") as f:
        return _Picture(caption, f"data:image/png;base64,{base64.b64encode(f.read()).decode()}")


def _configs(runs):
    texts = []
    for name, (_, folder) in zip(_unique([name for name, _ in runs]), runs):
        path = os.path.join(folder, "config.yaml")
        if os.path.isfile(path):
            with open(path, errors="replace") as f:
                texts.append((f"{name}: {path}", f.read()))
    return texts


def _unique(names):
    """Numbers names that stand more than once."""
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]
