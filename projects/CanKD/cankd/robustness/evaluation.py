"""Evaluation on corrupted images, COCO-C."""

import contextlib
import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from cankd.data import (
    MIN_SIDE,
    Cell,
    CorruptedDataset,
    check_records,
    compile_corruptions,
    load_records,
    naming_broken_image,
)
from cankd.engine import build_mapper, build_teacher, load_student, lock_output_dir, read_format, teacher_model
from cankd.evaluation import Grid, build_evaluator
from cankd.utils import UserError
from detectron2.data.samplers import InferenceSampler
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from .cell_store import CellStore
from .fingerprints import fingerprint_data, fingerprint_model

__all__ = ["corrupted_loader", "evaluate_robustness"]

logger = logging.getLogger(__name__)

_PATIENCE = 600  # seconds without an image from a loader's worker; one that is forked beside threads may stand still


def evaluate_robustness(
    config: DictConfig,
    models: Mapping[str, str],
    cells: Sequence[Cell],
    output_dir: str,
    *,
    channel_order: str = "RGB",
) -> dict[str, Grid]:
    """Evaluates models of one config on corrupted versions of its test set; each image is corrupted once for all.

    Each finished cell is kept. What is there for the same weights, data and settings is not computed again; what is
    there for others is replaced.

    Args:
        config: of a distiller or of a plain model.
        models: map from a name to a checkpoint of the student, or of the plain model; the name "teacher" is the
            config's teacher, with its own weights.
        cells: see :func:`cankd.data.corruptions.choose_cells`.
        output_dir: the results go to a folder of each model's name in it.
        channel_order: see :class:`cankd.data.CorruptedDataset`.

    Returns:
        Map from name to results by cell; empty except on the main process.

    Raises:
        UserError: if a model cannot be loaded, the data cannot be corrupted, or results cannot be written, for example
            because another run writes there.
    """
    if config.dataloader.get("evaluator") is None:
        raise UserError("the config has no dataloader.evaluator, so there is nothing to measure")
    library = compile_corruptions(cells)
    records = _load_records(config.dataloader.test)
    data = f"{fingerprint_data(config.dataloader, records)} {library} {channel_order}"
    entries = {name: _prepare(config, name, path, data, output_dir) for name, path in models.items()}
    with lock_output_dir(output_dir, called="the directory "):
        _fill(config.dataloader, records, entries, cells, channel_order)
        grids = {name: entry.store.load() for name, entry in entries.items()} if comm.is_main_process() else {}
    return {name: {cell: grid[cell] for cell in cells} for name, grid in grids.items()}


def _fill(data, records, entries, cells, channel_order):
    """Computes the cells that the models' stores lack, and removes what belongs to other models or data."""
    if comm.is_main_process():
        for name, entry in entries.items():
            if count := entry.store.drop_others():
                logger.warning("%s: %d results of another model, data or settings are replaced.", name, count)
    # The first process alone reads: the others may not see its disk, or see files that it removes.
    done = {name: set(entry.store.load()) for name, entry in entries.items()} if comm.is_main_process() else {}
    done = comm.all_gather(done)[0]
    pending = {cell: [name for name in entries if cell not in done[name]] for cell in cells}
    pending = {cell: names for cell, names in pending.items() if names}
    if len(pending) < len(cells):
        logger.info("%d of %d cells are done already.", len(cells) - len(pending), len(cells))
    if pending:
        _run(data, records, entries, pending, channel_order)


def corrupted_loader(
    loader: DictConfig, records: Sequence[dict], cells: Sequence[Cell], *, channel_order: str = "RGB"
) -> DataLoader:
    """Returns a loader of this process's share of the images, cell by cell.

    No batch holds images of two cells, and every cell has as many batches.

    Args:
        loader: ``dataloader.test`` of a config: its mapper, ``batch_size`` and ``num_workers`` are used.
        records: in Detectron2's format.
        cells: how each image is corrupted in turn.
        channel_order: see :class:`cankd.data.CorruptedDataset`.

    Raises:
        UserError: if the mapper is of a kind that cannot be made to corrupt, or the channel order is unknown.
    """
    share = list(InferenceSampler(len(records)))
    batch_size = loader.get("batch_size", 1)
    batches = [share[i : i + batch_size] for i in range(0, len(share), batch_size)]
    num_workers = loader.get("num_workers", 0)
    return DataLoader(
        CorruptedDataset(records, build_mapper(loader.mapper), cells, channel_order=channel_order),
        batch_sampler=[[c * len(records) + i for i in batch] for c in range(len(cells)) for batch in batches],
        num_workers=num_workers,
        timeout=_PATIENCE if num_workers else 0,
        collate_fn=list,
    )


class _Entry(NamedTuple):
    model: nn.Module
    store: CellStore


def _prepare(config, name, checkpoint, data_fingerprint, output_dir):
    input_format = read_format(config.dataloader.test)
    if name == "teacher":
        teacher = build_teacher(config)
        fingerprint = fingerprint_model(teacher.model, config.model.teacher.model)
        model = teacher_model(teacher, config.dataloader.test)
        input_format = teacher.input_format if teacher.scale == 1 else f"{teacher.input_format} × {teacher.scale}"
    else:
        model = load_student(config, checkpoint, name)
        fingerprint = fingerprint_model(model, config.model.get("student", config.model))
    model_fingerprint = f"{fingerprint} {input_format}"
    store = CellStore(os.path.join(output_dir, name), data_fingerprint, model_fingerprint)
    return _Entry(model.to(config.train.device), store)


def _load_records(loader):
    if not {"dataset", "mapper"} <= set(loader):
        raise UserError(
            "corrupted images need dataloader.test to have a dataset and a mapper, as detectron2.data."
            f"build_detection_test_loader takes them; it has {', '.join(loader)}"
        )
    mapper = build_mapper(loader.mapper)
    records = check_records(load_records(loader.dataset), loader.dataset, mapper, skip_broken=None)
    sizes = map(_size, tqdm(records, "Reading sizes", unit="image", leave=False, disable=None))
    small = [record["file_name"] for record, size in zip(records, sizes) if min(size) < MIN_SIDE]
    if small:
        raise UserError(
            f"{len(small)} of {len(records)} images are smaller than {MIN_SIDE} pixels and cannot be corrupted: "
            f"{', '.join(small[:5])}{' …' if len(small) > 5 else ''}. Take them out of the data set"
        )
    return records


def _size(record):
    if {"height", "width"} <= record.keys():
        return record["height"], record["width"]
    path = record["file_name"]
    with naming_broken_image(path), Image.open(PathManager.get_local_path(path)) as image:
        return image.size


def _run(data, records, entries, pending, channel_order):
    """Fills the pending cells, a map from cell to the names of the models that lack it."""
    loader = corrupted_loader(data.test, records, list(pending), channel_order=channel_order)
    batches_per_cell = len(loader) // len(pending)
    images = sum(len(batch) for batch in loader.batch_sampler)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_quiet_evaluators())
        for entry in entries.values():
            stack.enter_context(inference_context(entry.model))
        progress = stack.enter_context(tqdm(total=images, unit="image", disable=not comm.is_main_process()))
        batches = _telling_of_silence(loader)
        for i, (cell, names) in enumerate(pending.items(), start=1):
            progress.set_description(f"Cell {i} of {len(pending)}, {cell}")
            evaluators = {name: build_evaluator(data.evaluator, output_dir=None) for name in names}
            for evaluator in evaluators.values():
                evaluator.reset()
            for batch in itertools.islice(batches, batches_per_cell):
                for name, evaluator in evaluators.items():
                    evaluator.process(batch, entries[name].model(batch))
                progress.update(len(batch))
            for name, evaluator in evaluators.items():
                _save(entries[name].store, cell, evaluator.evaluate())


def _telling_of_silence(loader):
    """Yields a loader's batches, and says what to do if its workers give none any more."""
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader timed out" not in str(error):
            raise
        raise UserError(
            f"no image has come from the data loader's workers for {_PATIENCE} seconds. The same command goes on from "
            "the finished cells; dataloader.test.num_workers=0 does without workers"
        ) from error


def _save(store, cell, results):
    if not comm.is_main_process():
        return
    if not results:
        raise UserError("the evaluator gave no metrics: are the test set's annotations there?")
    store.save(cell, results)


@contextlib.contextmanager
def _quiet_evaluators() -> Iterator[None]:
    """Keeps the evaluators' tables, one a cell and model, from burying the progress bar."""
    loggers = [logging.getLogger(name) for name in ("detectron2.evaluation", "cankd.evaluation")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels):
            each.setLevel(level)
