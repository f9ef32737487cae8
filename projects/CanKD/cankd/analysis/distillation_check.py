"""What is known about a distillation after a minute, before hours of training."""

from collections.abc import Callable

from cankd.data import check_image_classes, check_records, load_records
from cankd.engine import (
    build_mapper,
    build_model,
    build_unlabelled_loader,
    check_device,
    check_output_dir,
    check_parts,
    is_distillation,
)
from cankd.utils import UserError
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig

from .findings import Findings
from .first_scores import compare_first_scores
from .first_step import take_first_step
from .image_sizes import describe_sizes
from .small_images import describe_small_images
from .start import describe_learning_rate, describe_levels, load_start

__all__ = ["check_distillation"]


def check_distillation(
    config: DictConfig, *, num_images: int = 50, num_gpus: int = 1, report: Callable = print
) -> dict:
    """Looks for what would make a distillation fail or be in vain, by doing a little of everything that it does.

    Args:
        config: of a distiller, as for :func:`train`. Nothing is written but its output directory, empty.
        num_images: of the test set, on which teacher and student are evaluated; 0 for none.
        num_gpus: processes that the training will have; the step is that of one of them.
        report: takes each line that the user is to see.

    Returns:
        What was found: "levels", "weights", "learning_rate"; "teacher" and "student", their metrics before training;
        "sizes" of the training images; "too small", how many of them are so small that a batch of such images is
        distilled without a level, by level;
        "gradients", "parameters", "memory", "step" and "cost", see :func:`take_first_step`; "notes"; and "problems", a
        list of what has to be mended, empty if the run is ready. What a problem kept from being looked at is absent.

    Raises:
        UserError: if the config lacks parts, or is not of a distiller.
    """
    check_parts(config)
    if not is_distillation(config):
        raise UserError("the config's model has no teacher: only the config of a distillation can be checked")
    seed_all_rng(None if config.train.seed < 0 else config.train.seed)
    findings, model, found = Findings(report), None, {}
    with findings.collect():
        check_output_dir(config.train.output_dir)
    records = _load_splits(config.dataloader, findings)
    with findings.collect():
        check_device(config.train.device)
        model = build_model(config)
    if model is not None:
        found = _look_at(config, model, records, num_images, num_gpus, findings)
    findings.conclude()
    return {**found, "notes": findings.notes, "problems": findings.problems}


def _load_splits(data, findings):
    """Returns the records of each split, None where the loader brings its own; a split that fails is absent."""
    records = {}
    for split in ("train", "test"):
        if split in data:
            with findings.collect():
                records[split] = load_records(data[split].dataset) if "dataset" in data[split] else None
    return records


def _look_at(config, model, records, num_images, num_gpus, findings):
    data, found = config.dataloader, {"weights": {}}
    found["levels"] = describe_levels(model, findings)
    with findings.collect():
        found["weights"] = load_start(model, config.train, findings)
    found["learning_rate"] = describe_learning_rate(config, findings)
    with findings.collect():
        loaded = {key: data[key] for key in (*records, "evaluator") if key in data}
        check_image_classes(loaded, model.student)
    if num_images and data.get("evaluator") is not None and records.get("test"):
        with findings.collect():
            found.update(compare_first_scores(model, data, records["test"], num_images, findings))
    with findings.collect():
        if build_unlabelled_loader(config, model) is not None:
            findings.show(
                "\nUnlabelled images can be read (train.distillation.unlabelled); the step is taken without them"
            )
    if "train" in records:
        sizes = None
        with findings.collect():
            if "mapper" in data.train:
                records["train"] = check_records(
                    records["train"],
                    data.train.dataset,
                    build_mapper(data.train.mapper),
                    skip_broken=config.train.skip_broken,
                    read_all_images=config.train.read_all_images,
                )
        with findings.collect():
            sizes = describe_sizes(records["train"], data.train, findings)
        with findings.collect():
            found.update(take_first_step(config, model, records["train"], num_gpus, findings))
            batch_size = max(1, data.train.get("total_batch_size", 1) // (num_gpus * config.train.accumulate))
            found["too small"] = describe_small_images(model, sizes, batch_size, findings)
        if sizes is not None:
            found["sizes"] = {"smallest": sizes.smallest, "median": sizes.median, "largest": sizes.largest}
    return found
