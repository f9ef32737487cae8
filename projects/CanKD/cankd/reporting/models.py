"""The models that a config describes, loaded to be looked at side by side, and the images to look at."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from .data_checks import load_records
from .training import load_student, with_image_format

__all__ = ["LoadedModel", "choose_records", "load_models", "metadata_of"]

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class LoadedModel(NamedTuple):
    """A model with its weights, in evaluation mode, and the mapper that reads records in its channel order."""

    model: nn.Module
    mapper: Callable


class _CheckingMapper:
    """A mapper that names the image that it cannot read."""

    def __init__(self, mapper: Callable):
        self._mapper = mapper
        self.image_format = getattr(mapper, "image_format", None)

    def __call__(self, record: dict) -> dict:
        try:
            return self._mapper(record)
        except (OSError, SyntaxError) as error:
            raise _unreadable(record["file_name"], error) from error


def load_models(config: DictConfig, *, baseline: str = "") -> dict[str, LoadedModel]:
    """Loads the models of a config for which there are weights.

    Args:
        config: of a distiller, whose student's checkpoint is ``train.init_checkpoint``, or of a plain model.
        baseline: checkpoint of the same student, trained alone.

    Returns:
        Map from title to model: "student" (the baseline), "distilled student" and "teacher", those that there are, or
        "model" of a plain config.

    Raises:
        ValueError: if there is none, or a checkpoint does not fit.
    """
    checkpoint = config.train.init_checkpoint
    if "student" not in config.model:
        if baseline:
            raise ValueError("this config describes one model, that of train.init_checkpoint: leave --baseline out")
        checkpoints = {"model": checkpoint}
    else:
        checkpoints = {"student": baseline, "distilled student": checkpoint}
    models, loader = {}, config.dataloader.test
    for title, path in checkpoints.items():
        if path:
            option = "--baseline" if title == "student" else "train.init_checkpoint"
            model = load_student(config, path, f"{title} ({option})")
            models[title] = LoadedModel(model, _CheckingMapper(instantiate(loader.mapper)))
    if "teacher" in config.model:
        teacher = instantiate(config.model.teacher)
        mapper = instantiate(with_image_format(loader, teacher.input_format).mapper)
        models["teacher"] = LoadedModel(teacher.model, _CheckingMapper(mapper))
    if not models:
        raise ValueError("there is no model to look at: give a checkpoint by train.init_checkpoint=FILE")
    return {title: LoadedModel(m.model.to(config.train.device).eval(), m.mapper) for title, m in models.items()}


def choose_records(config: DictConfig, *, inputs: Sequence[str] = (), images: int = 4) -> list[dict]:
    """Returns records of images to look at, in Detectron2's format.

    Args:
        config: with ``dataloader.test``.
        inputs: image files, and folders of them; the first images of the test set if there are none.
        images: how many of the test set.

    Raises:
        ValueError: if a file is missing, cut off or not of 8 bits a channel, or there is nothing to look at.
    """
    dataset = config.dataloader.test.dataset
    if images < 1:
        raise ValueError(f"there is nothing to look at: images is {images}")
    if inputs:
        metadata = metadata_of(dataset)
        if not (metadata.get("thing_classes") or metadata.get("stuff_classes")):
            load_records(dataset)  # which names the classes
        records = _list_images(inputs)
    else:
        records = load_records(dataset)[:images]
    if not records:
        raise ValueError("there is nothing to look at: the test set is empty")
    for record in records:
        _check_image(record["file_name"])
    return records


def metadata_of(dataset: DictConfig) -> Metadata:
    """Returns what Detectron2 knows of a data set, given as a lazy call with ``names``."""
    names = dataset.names
    return MetadataCatalog.get(names if isinstance(names, str) else names[0])


def _list_images(inputs):
    files = []
    for entry in inputs:
        if os.path.isdir(entry):
            files += [os.path.join(entry, name) for name in sorted(os.listdir(entry)) if name.lower().endswith(IMAGES)]
        elif os.path.isfile(entry):
            files.append(entry)
        else:
            raise ValueError(f"there is no image or folder {entry}")
    if not files:
        raise ValueError(f"there is no image ({', '.join(IMAGES)}) in {', '.join(inputs)}")
    return [{"file_name": file} for file in files]


def _check_image(path):
    try:
        with Image.open(PathManager.get_local_path(path)) as image:
            image.load()
            mode = image.mode
    except (OSError, SyntaxError) as error:
        raise _unreadable(path, error) from error
    if mode.startswith(("I", "F")):  # as of 16 bits: Detectron2 would read it, and clip it to white
        raise ValueError(f"{path} has pixels of mode {mode}: models take 8 bits a channel, so convert it first")


def _unreadable(path, error):
    return ValueError(f"{path} cannot be read as an image; it may be cut off ({error})")
