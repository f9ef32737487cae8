"""Checks that take seconds and are made before anything that takes hours."""

import argparse
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence

import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from torch import nn

__all__ = [
    "check_batch_size",
    "check_classes",
    "check_device",
    "check_output_dir",
    "check_parts",
    "check_processes",
    "load_records",
    "prepare_run",
]


def prepare_run(config: DictConfig, args: argparse.Namespace) -> None:
    """Does what Detectron2's ``default_setup`` does, once it is sure that the run can be written and has its device.

    Args:
        config: the whole config.
        args: as :func:`detectron2.engine.default_argument_parser` gives them.
    """
    output_dir = config.train.output_dir
    check_output_dir(output_dir)
    check_device(config.train.device)
    setup_logger(output_dir, distributed_rank=comm.get_rank(), name="cankd", abbrev_name="cankd")
    default_setup(config, args)


def check_output_dir(path: str) -> None:
    """Makes sure that a run can be written.

    Raises:
        ValueError: if the directory cannot be made or written to.
    """
    try:
        PathManager.mkdirs(path)
        if os.path.isdir(path):
            with tempfile.TemporaryFile(dir=path):
                pass
    except OSError as error:
        raise ValueError(f"train.output_dir={path} cannot be written: {error.strerror or error}") from error


def check_device(device: str) -> None:
    """Makes sure that the device exists.

    Raises:
        ValueError: if the device is unknown, or there is no CUDA device.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"train.device={device} is not a device that PyTorch knows: use cuda or cpu") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"train.device={device}, but PyTorch finds no CUDA device: add train.device=cpu")


def check_processes(processes_per_machine: int) -> None:
    """Makes sure, before processes are started, that each gets a GPU of its own, unless there is none at all.

    Raises:
        ValueError: if there are GPUs, but fewer than processes.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < processes_per_machine:
        raise ValueError(f"--num-gpus {processes_per_machine}, but this machine has {torch.cuda.device_count()}")


def check_parts(config: DictConfig) -> None:
    """Makes sure that a config has what training needs.

    Raises:
        ValueError: if a part is absent.
    """
    if absent := {"optimizer", "lr_multiplier"} - set(config) or {"train"} - set(config.dataloader):
        raise ValueError(f"the config has no {' and no '.join(sorted(absent))}, which training needs")


def check_batch_size(loader: DictConfig, processes: int) -> None:
    """Makes sure that every process gets as many images.

    Args:
        loader: ``dataloader.train`` of a config; nothing is checked if it has no ``total_batch_size``.
        processes: number of all.

    Raises:
        ValueError: if the total batch size is no multiple of the number of processes.
    """
    total = loader.get("total_batch_size")
    if total is not None and (total < 1 or total % processes):
        raise ValueError(
            f"dataloader.train.total_batch_size is {total}; it has to be a multiple of the number of processes, "
            f"{processes}"
        )


def load_records(dataset: DictConfig) -> Sequence:
    """Loads the records of a data set and makes sure that its images exist.

    Args:
        dataset: lazy call of :func:`detectron2.data.get_detection_dataset_dicts`, or of anything that gives a list of
            records or a data set.

    Raises:
        ValueError: if the data set is not registered, its annotations are absent or unreadable, or images are missing.
    """
    names = dataset.get("names", ())
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in DatasetCatalog:
            raise ValueError(
                f"no data set is registered as {name!r}. Register it in the config, for example by "
                "detectron2.data.datasets.register_coco_instances(name, {}, json_file, image_root). Registered are: "
                f"{', '.join(sorted(DatasetCatalog))}"
            )
    files = [MetadataCatalog.get(name).get("json_file") for name in names]
    described = ", ".join(filter(None, files)) or ", ".join(names) or "the data set"
    try:
        records = instantiate(dataset)
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename or error} is absent; the data set {', '.join(names)} needs it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{described} is not JSON, or is cut off: {error}") from error
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{described} cannot be used ({type(error).__name__}: {error}). It has to be in COCO format, with lists of "
            "images, annotations and categories, and have annotated images"
        ) from error
    if isinstance(records, list):
        _check_images(records, described)
    return records


def _check_images(records, described):
    """Lists each folder once: asking for every file by itself takes minutes on a network file system."""
    wanted = defaultdict(set)
    for record in records:
        if "://" not in record.get("file_name", "://"):  # what is remote is fetched when it is read
            folder, name = os.path.split(record["file_name"])
            wanted[folder].add(name)
    missing = []
    for folder, names in wanted.items():
        present = os.listdir(folder) if os.path.isdir(folder) else ()
        missing += [os.path.join(folder, name) for name in sorted(names.difference(present))]
    if missing:
        raise ValueError(
            f"{described} names {len(missing)} images that do not exist, of {len(records)}; the first is {missing[0]}. "
            "Check the image root"
        )


def check_classes(records: Sequence, student: nn.Module) -> None:
    """Makes sure that the model can predict every class of the data.

    Args:
        records: in Detectron2's format.
        student: whose ``num_classes``, its own or its box head's, counts; without either nothing is checked.

    Raises:
        ValueError: if an annotation has a class beyond the model's.
    """
    predictor = getattr(student, "roi_heads", student)
    num_classes = getattr(predictor, "num_classes", None)
    if num_classes is None or not isinstance(records, list):
        return
    found = {a["category_id"] for r in records for a in r.get("annotations", ()) if "category_id" in a}
    if found and max(found) >= num_classes:
        raise ValueError(
            f"the data has {max(found) + 1} classes, but the model predicts {num_classes}: set num_classes in the "
            "student's config (and in the teacher's, if it was trained on the same data)"
        )
