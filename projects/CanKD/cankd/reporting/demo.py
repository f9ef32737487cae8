"""The demonstration: one student alone and by CanKD, under one teacher, compared."""

import contextlib
import copy
import functools
import json
import logging
import math
import os
import time
from collections.abc import Callable

from cankd.data import load_records
from cankd.engine import ProgressBar, check_output_dir, config_yaml, evaluate, train
from cankd.utils import NonFiniteError, UserError, lock_directory, replace_file, write_json
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from .begun_runs import begin_anew
from .comparison import box_metrics_table, gap_closed
from .confusion import compare_confusion
from .feature_pictures import draw_features
from .models import load_models
from .pictures import draw_comparison
from .report import make_report

__all__ = ["run_demo"]

logger = logging.getLogger(__name__)

_WEIGHTS = ("model_final.pth",)

STUDENT, DISTILLED, TEACHER = "student alone", "CanKD student", "teacher"


def run_demo(student: DictConfig, distilled: DictConfig, output_dir: str, report: Callable) -> dict:
    """Trains a student alone and by distillation, evaluates both and the teacher, and writes the comparison.

    What an earlier, interrupted call finished is not done again.

    Args:
        student: config of the student alone.
        distilled: config of its distillation.
        output_dir: gets ``report.html``, what it shows, ``results.md``, ``results.json``, ``log.txt`` and a folder for
            each run.
        report: takes each line that the user is to see.

    Returns:
        Map from row title to box metrics.

    Raises:
        UserError: if the folder cannot be written, or another demo is running in it.
    """
    check_output_dir(output_dir)
    with lock_directory(output_dir):
        return _run(student, distilled, output_dir, report)


def _run(student, distilled, output_dir, report):
    for name in ("detectron2", "fvcore", "cankd"):
        setup_logger(output_dir, name=name, configure_stdout=False)
    for config, folder in ((student, "student"), (distilled, "cankd")):
        config.train.output_dir = os.path.join(output_dir, folder)
    start = time.perf_counter()

    report("[1/5] Preparing the data")
    load_records(student.dataloader.train.dataset)
    records = load_records(student.dataloader.test.dataset)
    results = {}
    report("[2/5] Evaluating the teacher")
    teacher_dir = os.path.join(output_dir, "teacher")
    results[TEACHER] = _once(distilled, teacher_dir, lambda resume: evaluate(distilled, role="teacher"))
    for step, title, config in ((3, STUDENT, student), (4, DISTILLED, distilled)):
        report(f"[{step}/5] Training the {title}: {config.train.max_iter} iterations")
        results[title] = _once(config, config.train.output_dir, functools.partial(_train, config), _WEIGHTS)
    report("[5/5] Drawing detections, confusion matrices and features")
    results = {title: results[title] for title in (STUDENT, DISTILLED, TEACHER)}
    _draw(student, distilled, records, output_dir)
    table = _write(results, student.train.max_iter, output_dir)
    runs = [(title, config.train.output_dir) for title, config in ((STUDENT, student), (DISTILLED, distilled))]
    make_report(runs, output_dir, include=[output_dir], teacher=results[TEACHER]["AP"], title="CanKD: demo")

    report(f"\n{table}\n")
    report(f"Done in {(time.perf_counter() - start) / 60:.1f} minutes. In {output_dir}:")
    report("  report.html                everything below on one page, to open in a browser")
    report("  results.md, results.json   this table")
    report("  detections.png             detections of the three models beside the ground truth")
    report("  confusion.*, features/     what the models confuse, and the features that one learnt from the other")
    report("  log.txt                    everything that Detectron2 logged")
    report("  student/, cankd/           the two runs: model_final.pth, metrics.json, TensorBoard events")
    return results


def _train(config, resume):
    return train(config, resume=resume, extra_hooks=(ProgressBar(),))


def _once(config, folder, compute, needs=()):
    """Computes box metrics and keeps them. What an earlier call began with the same config is continued or returned."""
    config_file, results_file = (os.path.join(folder, name) for name in ("config.yaml", "results.json"))
    wanted = config_yaml(config)
    begun = _read(config_file) == wanted
    if begun and all(os.path.isfile(os.path.join(folder, name)) for name in needs):
        with contextlib.suppress(TypeError, ValueError):  # nothing was written, or it was damaged since
            return {
                name: math.nan if value is None else value for name, value in json.loads(_read(results_file)).items()
            }
    if not begun:
        begin_anew(folder)
        with replace_file(config_file, "w") as f:
            f.write(wanted)
    try:
        metrics = compute(resume=begun)["bbox"]
    except UserError as error:
        if not begun or isinstance(error, NonFiniteError):
            raise
        logger.warning("%s starts anew: %s", folder, error)
        begin_anew(folder)
        metrics = compute(resume=False)["bbox"]
    write_json(results_file, metrics)
    return metrics


def _read(path):
    if not os.path.isfile(path):
        return None
    with open(path, errors="replace") as f:
        return f.read()


def _draw(student, distilled, records, output_dir):
    """Draws the first test images with three objects or more, what is confused on all, and features of two."""
    baseline, checkpoint = (os.path.join(c.train.output_dir, "model_final.pth") for c in (student, distilled))
    config = copy.deepcopy(distilled)
    config.train.init_checkpoint = checkpoint
    models = dict(zip((STUDENT, DISTILLED, TEACHER), load_models(config, baseline=baseline).values()))
    chosen = [record for record in records if len(record["annotations"]) >= 3][:4]
    test = config.dataloader.test
    draw_comparison(models, test.dataset, chosen, os.path.join(output_dir, "detections.png"))
    compare_confusion(models, test, output_dir)
    draw_features(models, config, chosen[:2], os.path.join(output_dir, "features"))


def _write(results, iterations, output_dir):
    table = box_metrics_table(results, student=STUDENT, teacher=TEACHER)
    share = gap_closed(*(results[title]["AP"] for title in (STUDENT, DISTILLED, TEACHER)))
    contents = {"iterations": iterations, "results": results, "gap_closed": share}
    write_json(os.path.join(output_dir, "results.json"), contents)
    with replace_file(os.path.join(output_dir, "results.md"), "w") as f:
        f.write(f"Digit Scenes, {iterations} iterations, one seed; COCO box metrics on the val split.\n\n{table}\n")
    return table
