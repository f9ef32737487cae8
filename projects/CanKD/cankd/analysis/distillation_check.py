"""What is known about a distillation after a minute, before hours of training."""

import contextlib
import functools
from collections.abc import Callable

import torch
from cankd.checkpoint import DistillationCheckpointer
from cankd.data import check_classes, check_crops, check_shapes, load_records
from cankd.engine import (
    build_model,
    build_unlabelled_loader,
    check_batch_size,
    check_device,
    check_output_dir,
    check_parts,
    choose_precision,
    is_distillation,
    measure_step,
    teacher_model,
)
from cankd.evaluation import SemSegEvaluator
from cankd.utils import UserError, markdown_table
from detectron2.config import instantiate
from detectron2.evaluation import CityscapesSemSegEvaluator, COCOEvaluator
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from .costs import cost_table, count_costs
from .small_images import find_skipped_levels, find_smallest_image

__all__ = ["check_distillation"]

LOWEST_SCORES = {"AP": 1.0, "mIoU": 5.0, "top1": 5.0}  # of a teacher that has learnt something, in per cent


def check_distillation(
    config: DictConfig, *, num_images: int = 50, num_gpus: int = 1, report: Callable = print
) -> dict:
    """Looks for what would make a distillation fail or be in vain, by doing a little of everything that it does.

    Args:
        config: of a distiller, as for :func:`train`. Nothing is written but its output directory, empty.
        num_images: of the test set, on which the teacher is evaluated; 0 for none.
        num_gpus: processes that the training will have; the step is that of one of them.
        report: takes each line that the user is to see.

    Returns:
        What was found: "levels", "weights", "teacher", "cost", "memory", "learning_rate", "gradients", "left out", the
        levels that the smallest images have no place for, and "problems", a list of what has to be mended; empty if the
        run is ready. What a problem kept from being looked at is absent.

    Raises:
        UserError: if the config lacks parts, or is not of a distiller.
    """
    check_parts(config)
    if not is_distillation(config):
        raise UserError("the config's model has no teacher: only the config of a distillation can be checked")
    seed_all_rng(None if config.train.seed < 0 else config.train.seed)
    found = {"problems": []}
    collect = functools.partial(_collect, found["problems"])
    data, model, records = config.dataloader, None, {}
    with collect():
        check_output_dir(config.train.output_dir)
    for split in ("train", "test"):
        if split in data:
            with collect():
                records[split] = load_records(data[split].dataset) if "dataset" in data[split] else None
    with collect():
        check_device(config.train.device)
        model = build_model(config)
        found["levels"] = _describe_levels(model, report)
    if model is not None:
        found["weights"] = {}
        with collect():
            found["weights"] = _load_weights(model, config.train, report)
        found["learning_rate"] = _describe_learning_rate(config, report)
        if num_images and "evaluator" in data and records.get("test"):
            with collect():
                found["teacher"] = _evaluate_teacher(data, model, records["test"], num_images, report)
        with collect():
            if build_unlabelled_loader(config, model) is not None:
                report(
                    "\nUnlabelled images can be read (train.distillation.unlabelled); the step is taken without them"
                )
        if "train" in records:
            with collect():
                found.update(_take_step(config, model, records["train"], num_gpus, report))
            with collect():
                found["left out"] = _look_at_smallest(
                    config.dataloader.train, model, records["train"], num_gpus, report
                )
    problems = found["problems"]
    report("")
    for problem in problems:
        report(f"To mend: {problem}")
    report(f"Not ready: {len(problems)} to mend." if problems else "Ready.")
    return found


@contextlib.contextmanager
def _collect(problems):
    try:
        yield
    except UserError as error:
        problems.append(str(error))


def _describe_levels(model, report):
    rows = []
    for pair in model.pairs:
        rows.append(
            {
                "student level": pair.student,
                "teacher level": pair.teacher,
                "student stride": pair.student_stride,
                "teacher stride": pair.teacher_stride,
                "student channels": pair.student_channels,
                "teacher channels": pair.teacher_channels,
                "adapter": pair.adapter,
            }
        )
    report("\nLevels\n" + markdown_table([row.values() for row in rows], list(rows[0]), left=2))
    return rows


def _load_weights(model, options, report):
    """Loads as training would; returns how many keys each part got."""
    checkpointer = DistillationCheckpointer(model.student, options.output_dir)
    checkpointer.resume_or_load(options.init_checkpoint, resume=False)
    reports = {"student": checkpointer.report, "teacher": model.teacher.load_report}
    found, rows = {}, []
    for role, loaded in reports.items():
        if loaded is None:
            found[role] = None
            rows.append((role, _describe_start(model.student if role == "student" else model.teacher.model)))
        else:
            found[role] = {name: len(keys) for name, keys in vars(loaded).items()}
            rows.append((role, str(loaded)))
    found["inherited"] = 0
    if options.inherit:
        found["inherited"] = len(model.teacher.give_weights(model.student, options.inherit))
        rows.append(("† teacher to student", f"{found['inherited']} of {len(model.student.state_dict())} keys copied"))
    report("\nWeights\n" + markdown_table(rows, ["model", "keys"], left=2))
    return found


def _describe_start(model):
    sources = {getattr(module, "initial_weights", "") for module in model.modules()} - {""}
    if sources:
        return f"none; its backbone is pre-trained, with the weights of {', '.join(sorted(sources))}"
    return "none: it starts from random weights (train.init_checkpoint)"


def _describe_learning_rate(config, report):
    batch_size, rate = config.dataloader.train.get("total_batch_size"), config.optimizer.get("lr")
    found = {"lr": rate, "total_batch_size": batch_size, "max_iter": config.train.max_iter}
    if batch_size and rate:
        others = sorted({batch_size // 2, batch_size * 2, batch_size * 4} - {0})
        rule = ", ".join(f"{rate * size / batch_size:g} for {size}" for size in others)
        scaled = "that on the command line rescales it" if config.train.reference_batch_size else "nothing rescales it"
        report(
            f"\nLearning rate {rate:g} for {batch_size} images an iteration, {config.train.max_iter} iterations; "
            f"by the linear rule {rule} ({scaled})"
        )
    return found


def _evaluate_teacher(data, model, records, num_images, report):
    """Evaluates the teacher on a few images, spread over the test set."""
    teacher = teacher_model(model.teacher, data.test)
    chosen = [records[i] for i in range(0, len(records), max(1, len(records) // num_images))][:num_images]
    loader = instantiate({**data.test, "dataset": chosen})
    evaluator = instantiate(data.evaluator)
    if isinstance(evaluator, CityscapesSemSegEvaluator):  # knows whole splits only
        evaluator = SemSegEvaluator(data.evaluator.dataset_name)
    evaluator.reset()
    advice = (
        f"check its weights, pixel_mean, pixel_std and input_format ({model.teacher.input_format}). If it was trained "
        "for other classes than this data has, leave this check out (--images 0)"
    )
    with inference_context(teacher), torch.no_grad():
        for inputs in tqdm(loader, desc="teacher", unit="batch", leave=False):
            evaluator.process(inputs, teacher(inputs))
    only = {"img_ids": [record["image_id"] for record in chosen]} if isinstance(evaluator, COCOEvaluator) else {}
    try:
        with contextlib.redirect_stdout(None):
            results = evaluator.evaluate(**only)
    except (UserError, AssertionError) as error:  # of our evaluator, of Detectron2's
        raise UserError(f"the teacher's predictions do not fit the data ({error}): {advice}") from error
    scores = {task: {k: v for k, v in metrics.items() if "-" not in k} for task, metrics in results.items()}
    for task, metrics in scores.items():
        table = markdown_table([[f"{value:.1f}" for value in metrics.values()]], list(metrics), left=0)
        report(f"\nTeacher on {len(chosen)} images, {task}\n{table}")
        for name in LOWEST_SCORES.keys() & metrics.keys():
            if not metrics[name] >= LOWEST_SCORES[name]:  # NaN if it predicts nothing
                raise UserError(f"the teacher's {task} {name} on {len(chosen)} images is {metrics[name]:.2f}: {advice}")
    return {"images": len(chosen), **scores}


def _take_step(config, model, records, num_gpus, report):
    """Takes one training step and tells what it needs and how its two aims get along."""
    if records is not None:
        check_classes(records, model.student)
        check_crops(records, config.dataloader.train)
        check_shapes(records, config.dataloader.train, model.student)
    loader = config.dataloader.train
    if "total_batch_size" in loader:
        check_batch_size(loader, num_gpus)
        # A synchronised norm sees the images of all processes, and needs two.
        least = 2 if any(isinstance(module, nn.SyncBatchNorm) for module in model.student.modules()) else 1
        loader = {**loader, "total_batch_size": max(least, loader.total_batch_size // num_gpus)}
    replaced = {} if records is None else {"dataset": records, "num_workers": 0}
    batch = next(iter(instantiate({**loader, **replaced})))
    optimizer = instantiate({**config.optimizer, "params": {**config.optimizer.params, "model": model}})
    try:
        gradients, memory = measure_step(model.train(), optimizer, batch, choose_precision(config.train))
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"a step of {len(batch)} images does not fit into the memory of the GPU: lower "
            "dataloader.train.total_batch_size, train on more GPUs (--num-gpus), or add train.amp.enabled=True"
        ) from error
    if gradients:
        rows = [(level, f"{row['ratio']:.2g}", f"{row['cosine']:+.2f}") for level, row in gradients.items()]
        title, headers = "Gradient at the student's feature, distillation against task", ["level", "ratio", "cosine"]
        report(f"\n{title}\n" + markdown_table(rows, headers))
    else:
        report("\nNo distillation: its weight is 0 (model.head.weight)")
    parts = ", ".join(f"{name} {num_bytes / 2**30:.2f}" for name, num_bytes in memory.items())
    report(f"\nEstimated memory of a step of {len(batch)} images: {sum(memory.values()) / 2**30:.2f} GiB ({parts})")
    costs = count_costs(model, batch[0])
    report(
        f"\nCost of an image of {'×'.join(map(str, batch[0]['image'].shape[1:]))}\n"
        + cost_table(costs, parts=["total"])
    )
    totals = {name: by_part["total"] for name, by_part in costs.items()}
    return {"gradients": gradients, "memory": memory, "cost": totals}


def _look_at_smallest(loader, model, records, num_gpus, report):
    """Tells which levels are left out of batches of the smallest images."""
    smallest = find_smallest_image(records or (), loader.mapper) if "mapper" in loader else None
    if smallest is None or not model.head.is_active:
        return []
    (height, width), file_name = smallest
    levels = find_skipped_levels(model, (height, width), max(1, loader.get("total_batch_size", 1) // num_gpus))
    if levels:
        report(
            f"\nImages as small as {file_name}, {height}×{width} in training, leave too few positions: batches of them "
            f"are distilled without {', '.join(levels)}, and counted in the log. Larger images, or other levels "
            "(model.head.levels), avoid that"
        )
    return levels
