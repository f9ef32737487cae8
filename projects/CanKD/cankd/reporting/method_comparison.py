"""Several methods on one pair of models and one data set, over seeds: what each gains, and what can be told apart."""

import contextlib
import functools
import logging
import os
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from cankd.engine import (
    apply_overrides,
    changed_fingerprints,
    check_checkpoints,
    code_fingerprint,
    decisive_options,
    evaluate,
    fingerprints_agree,
    load_config,
    lock_output_dir,
    result_fingerprints,
    run_in_processes,
    teacher_fingerprints,
    train,
    use_method,
)
from cankd.evaluation import METRICS, main_metric
from cankd.utils import (
    ComparisonError,
    Interrupted,
    NonFiniteError,
    UnknownClassError,
    UserError,
    make_output_dir,
    peak_memory,
    read_record,
    write_json,
)
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from tqdm import tqdm

from .begun_runs import begin_anew
from .method_tables import write_comparison
from .run_metrics import read_curves

__all__ = ["Method", "compare_methods", "parse_method"]

logger = logging.getLogger(__name__)

ALONE = "alone"
_ENTRIES = {"config": str, "metrics": dict}
_BEGUN_WITH = "begun_with.json"  # of a run's folder: the fingerprints at its start, and the options
_OTHER = {"config": "another config", "weights": "other weights", "data": "other data"}


class Method(NamedTuple):
    """A row of the comparison: its title, a name that :func:`cankd.engine.use_method` knows, changed options."""

    title: str
    name: str
    overrides: tuple[str, ...] = ()


def parse_method(text: str) -> Method:
    """Reads ``[TITLE=]METHOD[:key=value,key=value]``, for example ``strong=fgd:model.head.weight=10``."""
    if text.endswith(".json") and os.path.isfile(text):
        raise UserError(f"{text} needs a title: write TITLE={text}")
    head, _, options = text.partition(":")
    title, _, name = head.rpartition("=")
    if not re.fullmatch(r"[\w+.-]+", title or text.replace(":", "_").replace("=", "_").replace(",", "_")):
        raise UserError(f"{text!r} is no method: write METHOD, TITLE=METHOD or TITLE=METHOD:key=value,key=value")
    options = re.split(r",(?=[\w.]+=)", options)  # a value may be a list
    return Method(title or text, name, tuple(filter(None, options)))


def compare_methods(
    config_file: str,
    methods: Sequence[Method],
    seeds: Sequence[int],
    output_dir: str,
    *,
    baseline: str = ALONE,
    overrides: Sequence[str] = (),
    models: Mapping[str, Any] = MappingProxyType({}),
    runs_dir: str | None = None,
    jobs: int = 1,
    command: str = "",
) -> str:
    """Trains each method with each seed, from the same initial weights and on the same batches, and compares them.

    What an earlier call finished is not repeated, and what it began is continued.

    Args:
        config_file: of a distillation, or of a student.
        methods: at least one.
        seeds: of the trainings.
        output_dir: gets ``methods.md``, ``methods.json``, ``methods.png``, and a JSON of each finished run; with
            ``train.eval_period`` among the overrides also the time to quality and ``methods_curves.png``.
        baseline: title of the method that the others are compared with. The student alone, with no option changed, is
            added to the methods if it is not among them; it need not be trained if the baseline is another.
        overrides: options of the config, ``key=value``.
        models: the student's teacher, see :func:`cankd.engine.load_config`.
        runs_dir: where the trainings write; ``output_dir/runs`` if not given.
        jobs: trainings at a time, which share the cores, and each on a GPU of its own if there are enough.
        command: to be named in the table.

    Returns:
        The Markdown.

    Raises:
        UserError: if a config cannot be used, the baseline is none of the methods, nothing is evaluated, the folders
            hold runs of another config, or a training fails. What is finished is kept.
    """
    if baseline == ALONE:
        if not any(map(_is_plain_student, methods)):
            methods = [Method(ALONE, ALONE), *methods]
        baseline = next(method.title for method in methods if _is_plain_student(method))
    _check_arguments(methods, baseline, seeds, overrides)
    runs_dir = runs_dir or os.path.join(output_dir, "runs")
    make_output_dir(output_dir, called="--output ")
    runs = [
        _Run(config_file, tuple(overrides), dict(models), method, seed, output_dir, runs_dir)
        for seed in seeds
        for method in methods
    ]
    files = [run.result_file for run in runs]
    if twice := {file for file in files if files.count(file) > 1}:
        raise UserError(f"two methods would write {min(twice)}: give them other titles, or each seed once")
    _check_nothing_is_replaced(runs)
    pending = [run for run in runs if run.result() is None]
    for run in pending:
        check_checkpoints(run.config())
    if pending:
        make_output_dir(runs_dir, called="--runs ")
    teacher = _evaluate_teacher(runs[0])
    if teacher is not None and not any(task in METRICS for task in teacher):
        raise UserError(
            f"dataloader.evaluator of {config_file} gives {', '.join(teacher) or 'nothing'}; to be compared, it has to "
            f"give one of {', '.join(METRICS)}"
        )
    _train_all(pending, len(runs), jobs)
    results = {method.title: {} for method in methods}
    for run in runs:
        results[run.method.title][run.seed] = read_record(run.result_file, _ENTRIES)
    return write_comparison(
        results, teacher or {}, baseline, output_dir, iterations=runs[0].config().train.max_iter, command=command
    )


def _check_arguments(methods, baseline, seeds, overrides):
    titles = [method.title for method in methods]
    if len(set(titles)) < len(titles):
        raise UserError(f"two methods have the same title: {', '.join(titles)}")
    if baseline not in titles:
        raise UserError(f"the baseline {baseline!r} is none of the methods: {', '.join(titles)}")
    for key, option in (("train.seed", "--seeds"), ("train.output_dir", "--runs")):
        if any(override.partition("=")[0] == key for override in overrides):
            raise UserError(f"each training has its own {key}: give {option} instead")
    if min(seeds) < 0:
        raise UserError(
            f"the seed {min(seeds)} is drawn anew for each run, so that none starts alike: name seeds from 0"
        )


def _check_nothing_is_replaced(runs):
    """Makes sure that no run replaces what one of another config has made."""
    if others := [found for run in runs for found in run.files_of_others()]:
        path, what = others[0]
        more = f" and {len(others) - 1} more" if others[1:] else ""
        raise UserError(f"{path}{more}: of {what}. Give another --output, or remove what is there to train anew")


def _is_plain_student(method):
    return method.name == ALONE and not method.overrides


class _Run(NamedTuple):
    """One training: a method and a seed."""

    config_file: str
    overrides: tuple[str, ...]
    models: Mapping[str, Any]
    method: Method
    seed: int
    output_dir: str
    runs_dir: str

    @property
    def name(self):
        return f"{re.sub(r'[^A-Za-z0-9_+.-]+', '_', self.method.title)}_{self.seed}"

    @property
    def result_file(self):
        return os.path.join(self.output_dir, f"{self.name}.json")

    def config(self) -> DictConfig:
        config = use_method(load_config(self.config_file, self.overrides, **self.models), self.method.name)
        apply_overrides(config, self.method.overrides)
        config.train.update(seed=self.seed, output_dir=os.path.join(self.runs_dir, self.name))
        return config

    def files_of_others(self) -> Iterator[tuple[str, str]]:
        """Yields what another run has left where this one writes, and of what other config, weights or data it is."""
        config = self.config()
        fingerprints, folder = result_fingerprints(config), config.train.output_dir
        begun = read_record(os.path.join(folder, _BEGUN_WITH), {"config": str}) or {}
        for shown, record in ((self.result_file, read_record(self.result_file, {"config": str})), (folder, begun)):
            changed = changed_fingerprints(record or {}, fingerprints)
            others = [_OTHER[key] for key in changed]
            if "config" in changed and record["config"] == begun.get("config") and "options" in begun:
                others[0] += f" ({_changes(begun['options'], decisive_options(config))})"
            if others:
                yield shown, " and ".join(others)

    def result(self) -> Mapping | None:
        """Returns what the finished run has written, None if it is not finished."""
        result = read_record(self.result_file, _ENTRIES)
        if result is None:
            return None
        config = self.config()
        if result.get("code") not in (None, code_fingerprint(config)):
            logger.warning(
                "%s was trained before code of the config's own was changed: remove it to train it again.",
                self.result_file,
            )
        if 0 < config.train.eval_period < config.train.max_iter and "curves" not in result:
            logger.warning(
                "%s was not evaluated on the way: remove it and %s to train it again.",
                self.result_file,
                config.train.output_dir,
            )
        return result


def _changes(before, now):
    """Names the options that differ, the first of them with their values."""
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    shown = [f"{key} was {before.get(key)}, now {now.get(key)}" for key in changed[:3]]
    if more := len(changed[3:]):
        shown.append(f"{more} more option{'s' if more > 1 else ''}")
    return "; ".join(shown)


def _evaluate_teacher(run):
    path = os.path.join(run.output_dir, "teacher.json")
    config = run.config()
    fingerprints = teacher_fingerprints(config)
    result = read_record(path, _ENTRIES)
    if result is None or not fingerprints_agree(result, fingerprints):
        try:
            with contextlib.redirect_stdout(None):
                metrics = evaluate(config, role="teacher")
        except UnknownClassError as error:
            logger.warning("The teacher is not evaluated, as it was trained for other classes: %s", error)
            return None
        result = {**fingerprints, "metrics": metrics}
        write_json(path, result)
    return result["metrics"]


def _train_all(pending, total, jobs):
    threads, failures = max(1, (os.cpu_count() or 1) // jobs), []
    with tqdm(total=total, initial=total - len(pending), unit="run") as progress:

        def ended(run, error):
            if isinstance(
                error, (ComparisonError, NonFiniteError, torch.OutOfMemoryError)
            ):  # which says nothing of the other runs
                failures.append(f"{run.name}: {error}")
                logger.warning("%s failed, and the others go on: %s", run.name, error)
            elif error:
                raise UserError(f"{run.name}: {error}")
            progress.set_postfix_str(run.name)
            progress.update()

        run_in_processes(functools.partial(_train_run, threads=threads), pending, jobs, ended)
    if failures:
        lines = "\n  ".join(failures)
        raise UserError(
            f"{len(failures)} of {len(pending)} runs failed, the others are finished and kept. Change the options of "
            f"these under another title, or leave them out:\n  {lines}"
        )


def _train_run(run, number, *, threads):
    """Trains in a process of its own, on the GPU of its number; returns the error if a user can mend it."""
    torch.set_num_threads(threads)
    if gpus := torch.cuda.device_count():
        torch.cuda.set_device(number % gpus)
    config = run.config()
    folder = config.train.output_dir
    fingerprints, code = result_fingerprints(config), code_fingerprint(config)
    os.makedirs(folder, exist_ok=True)
    for name in ("detectron2", "fvcore", "cankd"):
        setup_logger(folder, name=name, configure_stdout=False)
    with open(os.path.join(folder, "console.txt"), "a") as console:
        with contextlib.redirect_stdout(console), contextlib.redirect_stderr(console):
            try:
                with lock_output_dir(folder):
                    code = _begin(folder, fingerprints, code, decisive_options(config))
                    metrics = train(config, resume=True)
            except (UserError, torch.OutOfMemoryError) as error:
                return error
            except Interrupted as error:
                return UserError(f"its process got signal {error.number}")
    curves = read_curves(folder)
    times = list(curves.get("time", {}).values())  # none of the first iterations
    at_the_end = result_fingerprints(config)  # its data may have been drawn only now
    result = {
        "method": run.method.title,
        "seed": run.seed,
        **{key: value or at_the_end[key] for key, value in fingerprints.items()},
        "code": code,
        "metrics": metrics,
        "seconds": statistics.median(times) if times else None,
        "memory": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak_memory(),
    }
    if evaluations := _evaluations(curves, metrics, config.train.max_iter):
        result["curves"] = evaluations
    write_json(run.result_file, result)
    return None


def _begin(folder, fingerprints, code, options):
    """Makes sure that a run goes on only with what it was begun with; returns the fingerprint of its code then."""
    path = os.path.join(folder, _BEGUN_WITH)
    begun = read_record(path, {"config": str})
    if begun is None or not fingerprints_agree(begun, fingerprints):
        begun = {}
        begin_anew(folder)
    begun = {"code": code, "options": options, **begun, **{key: value for key, value in fingerprints.items() if value}}
    write_json(path, begun)
    return begun["code"]


def _evaluations(curves, metrics, max_iter):
    """Returns each task's metric by the number of iterations behind it, if it was evaluated on the way."""
    names = [f"{task}/{main_metric(task, values)}" for task, values in metrics.items() if task in METRICS]
    # Detectron2 counts iterations from 0, but the last evaluation comes after all of them.
    found = {name: {min(i + 1, max_iter): value for i, value in curves.get(name, {}).items()} for name in names}
    return {name: curve for name, curve in found.items() if len(curve) > 1}
