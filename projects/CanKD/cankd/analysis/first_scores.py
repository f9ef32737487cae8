"""What teacher and student score on a few images before anything is trained."""

import contextlib
import functools
import math
import random
from collections.abc import Mapping, Sequence

import torch
from cankd.data import num_classes_of
from cankd.engine import build_loader, build_part, teacher_model
from cankd.evaluation import SemSegEvaluator, build_evaluator
from cankd.modeling import Distiller
from cankd.utils import UserError, markdown_table, spread
from detectron2.evaluation import (
    CityscapesSemSegEvaluator,
    COCOEvaluator,
    DatasetEvaluators,
    PascalVOCDetectionEvaluator,
)
from detectron2.evaluation.cityscapes_evaluation import CityscapesEvaluator
from detectron2.evaluation.evaluator import inference_context
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from .findings import Findings

__all__ = ["compare_first_scores"]

LOWEST_SCORES = {"AP": 1.0, "mIoU": 5.0, "PQ": 1.0, "top1": 5.0}  # of a teacher that has learnt something, in per cent


def compare_first_scores(
    model: Distiller, data: DictConfig, records: Sequence[Mapping], num_images: int, findings: Findings
) -> dict[str, dict]:
    """Evaluates the teacher, and the student with its initial weights, on a few images drawn from the test set.

    Args:
        model: the student has its initial weights.
        data: ``dataloader`` of the config.
        records: of the test set.
        num_images: how many to take.
        findings: takes what is found; a student that is better than its teacher already is a note.

    Returns:
        "teacher" and "student": "images", their number, and the metrics of each task. Nothing if the evaluator knows
        whole splits only.

    Raises:
        UserError: if predictions do not fit the data, or the teacher scores next to nothing.
    """
    evaluator = _build_evaluator(data.evaluator)
    for part in _parts(evaluator):
        if isinstance(part, (CityscapesEvaluator, PascalVOCDetectionEvaluator)):
            findings.show(f"\nThe teacher is not evaluated: {type(part).__name__} knows whole splits only")
            return {}
    indices = random.Random(0).sample(range(len(records)), min(num_images, len(records)))
    chosen = [records[i] for i in indices]  # drawn, since they may be sorted by class
    advice = (
        f"check its weights, pixel_mean, pixel_std and input_format ({model.teacher.input_format}). If it was trained "
        "for other classes than this data has, leave this check out (--images 0)"
    )
    teacher = _evaluate(teacher_model(model.teacher, data.test), data, evaluator, chosen, "teacher", advice)
    student = _evaluate(model.student, data, evaluator, chosen, "student", "check num_classes in its config")
    for task, metrics in teacher.items():
        start = {name: student.get(task, {}).get(name, math.nan) for name in metrics}
        rows = [["teacher", *map(_percent, metrics.values())], ["student's start", *map(_percent, start.values())]]
        findings.show(f"\nOn {len(chosen)} test images, {task}\n{markdown_table(rows, ['model', *metrics])}")
        for name in LOWEST_SCORES.keys() & metrics.keys():
            if not metrics[name] >= _lowest_score(name, model.teacher.model):  # NaN if it predicts nothing
                raise UserError(f"the teacher's {task} {name} on {len(chosen)} images is {metrics[name]:.2f}: {advice}")
            if start[name] > metrics[name]:
                findings.notes.append(
                    f"the student's {task} {name} is {start[name]:.1f} before training, and the teacher's "
                    f"{metrics[name]:.1f}: a worse teacher can hold a student back, take a better one"
                )
    return {role: {"images": len(chosen), **scores} for role, scores in (("teacher", teacher), ("student", student))}


def _lowest_score(metric, teacher):
    """Returns what a teacher has to reach; of a classifier, beyond what guessing gives."""
    num_classes = num_classes_of(teacher) if metric == "top1" else None
    guessed = 100 / num_classes if num_classes else 0
    return guessed + LOWEST_SCORES[metric] * (1 - guessed / 100)


def _percent(value):
    return spread([value])


def _build_evaluator(config):
    """Builds an evaluator, or several as one, for a part of the images; it writes nothing."""
    if OmegaConf.is_list(config):
        return DatasetEvaluators([_build_evaluator(part) for part in config])
    evaluator = build_part("dataloader.evaluator", config, functools.partial(build_evaluator, output_dir=None))
    if isinstance(evaluator, CityscapesSemSegEvaluator):  # knows whole splits only
        return SemSegEvaluator(config.dataset_name)
    return evaluator


def _parts(evaluator):
    """Yields the evaluators that one consists of."""
    if isinstance(evaluator, DatasetEvaluators):
        for part in evaluator._evaluators:
            yield from _parts(part)
    else:
        yield evaluator


def _evaluate(model, data, evaluator, records, role, advice):
    """Returns a map from task to metrics, those of single classes left out."""
    loader = build_loader(data.test, dataset=records)
    evaluator.reset()
    with inference_context(model), torch.no_grad():
        for inputs in tqdm(loader, desc=role, unit="batch", leave=False):
            evaluator.process(inputs, model(inputs))
    try:
        with contextlib.redirect_stdout(None):
            results = _evaluate_on(evaluator, records)
    except (UserError, AssertionError) as error:  # of our evaluator, of Detectron2's
        raise UserError(f"the {role}'s predictions do not fit the data ({error}): {advice}") from error
    return {task: {k: v for k, v in metrics.items() if "-" not in k} for task, metrics in results.items()}


def _evaluate_on(evaluator, records):
    """Returns the metrics on the records that were processed; COCO's evaluation takes others for missed."""
    results = {}
    for part in _parts(evaluator):
        only = {"img_ids": [record["image_id"] for record in records]} if isinstance(part, COCOEvaluator) else {}
        results.update(part.evaluate(**only))
    return results
