"""The models that a config describes, loaded to be looked at side by side, and the images to look at."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from cankd.data import (
    IMAGE_SUFFIXES,
    check_image,
    is_image_name,
    load_records,
    metadata_of,
    naming_broken_image,
    num_classes_of,
)
from cankd.engine import build_mapper, build_teacher, check_device, is_distillation, load_student, test_data
from cankd.modeling import Teacher
from cankd.utils import UserError
from detectron2.layers import ShapeSpec
from omegaconf import DictConfig
from torch import nn

__all__ = ["LoadedModel", "check_number", "choose_records", "load_models"]

logger = logging.getLogger(__name__)


class LoadedModel:
    """A model with its weights, in evaluation mode, that reads records by itself, in its own channel order and size."""

    def __init__(self, model: nn.Module, mapper: Callable, teacher: Teacher | None = None):
        """
        Args:
            model: takes mapped records.
            mapper: reads them.
            teacher: whose model it is, and which says how it wants its images; without one, as the mapper gives them.
        """
        self.model = model
        self.teacher = teacher
        self._mapper = mapper
        self._image_format = getattr(mapper, "image_format", None)

    def __call__(self, records: Sequence[dict]) -> list[dict]:
        """Returns what the model predicts for records in Detectron2's format."""
        return self.model(self.read(records))

    def read(self, records: Sequence[dict]) -> list[dict]:
        """Returns records as the model takes them.

        Raises:
            UserError: if an image cannot be read.
        """
        mapped = [self._map(record) for record in records]
        return self.teacher.view(mapped, self._image_format) if self.teacher else mapped

    def _map(self, record):
        with naming_broken_image(record["file_name"]):
            return self._mapper(record)

    def rgb(self, record: dict) -> np.ndarray:
        """Returns a record's image as the mapper gives it, RGB ``(H, W, 3)``."""
        image = self._map(record)["image"]
        return (image if self._image_format == "RGB" else image.flip(0)).permute(1, 2, 0).contiguous().numpy()

    def name_classes(self, names: Sequence[str]) -> Sequence[str]:
        """Returns the names of the model's classes: the data's, or numbers if it knows others, as a teacher may.

        The names of panoptic data are those of things and stuff together, and stay.
        """
        count = num_classes_of(self.model)
        are_the_datas = count in (None, len(names)) or hasattr(self.model, "sem_seg_head")
        return names if are_the_datas else [f"class {i}" for i in range(count)]

    def name_class(self, index: int, names: Sequence[str]) -> str:
        """Returns the name of one of the model's classes, its number if it has none."""
        own = self.name_classes(names)
        return own[index] if index < len(own) else f"class {index}"

    def rescale(self, shapes: Mapping[str, ShapeSpec]) -> Mapping[str, ShapeSpec]:
        """Returns shapes of the model's levels with strides in pixels of that image."""
        return self.teacher.rescale(shapes) if self.teacher else shapes


def load_models(config: DictConfig, *, baseline: str = "") -> dict[str, LoadedModel]:
    """Loads the models of a config for which there are weights.

    Args:
        config: of a distiller, whose student's checkpoint is ``train.init_checkpoint``, or of a plain model.
        baseline: checkpoint of the same student, trained alone.

    Returns:
        Map from title to model: "student" (the baseline), "distilled student" and "teacher", those that there are, or
        "model" of a plain config.

    Raises:
        UserError: if there is none, or a checkpoint does not fit.
    """
    check_device(config.train.device)
    checkpoint = config.train.init_checkpoint
    if not is_distillation(config):
        if baseline:
            raise UserError("this config describes one model, that of train.init_checkpoint: leave --baseline out")
        checkpoints = {"model": checkpoint}
    else:
        checkpoints = {"student": baseline, "distilled student": checkpoint}
    models, loader = {}, test_data(config)
    for title, path in checkpoints.items():
        if path:
            option = "--baseline" if title == "student" else "train.init_checkpoint"
            model = load_student(config, path, f"{title} ({option})")
            models[title] = LoadedModel(model, build_mapper(loader.mapper))
    if is_distillation(config):
        teacher = build_teacher(config)
        models["teacher"] = LoadedModel(teacher.model, build_mapper(loader.mapper), teacher)
        if len(models) == 1:
            logger.warning("Only the teacher is shown: give the student's checkpoint by train.init_checkpoint=FILE")
    if not models:
        raise UserError("there is no model to look at: give a checkpoint by train.init_checkpoint=FILE")
    for loaded in models.values():
        loaded.model.to(config.train.device).eval()
    return models


def check_number(images: int) -> None:
    """Makes sure that there are images to look at.

    Raises:
        UserError: if there is none.
    """
    if images < 1:
        raise UserError(f"there is nothing to look at: images is {images}")


def choose_records(config: DictConfig, *, inputs: Sequence[str] = (), images: int = 4) -> list[dict]:
    """Returns records of images to look at, in Detectron2's format.

    Args:
        config: with ``dataloader.test``.
        inputs: image files, and folders of them; the first images of the test set if there are none.
        images: how many of the test set.

    Raises:
        UserError: if a file is missing, cut off or not of 8 bits a channel, or there is nothing to look at.
    """
    dataset = test_data(config).dataset
    check_number(images)
    if inputs:
        metadata = metadata_of(dataset)
        if not any(metadata.get(names) for names in ("thing_classes", "stuff_classes", "image_classes")):
            _name_classes(dataset)
        records = _list_images(inputs)
    else:
        records = load_records(dataset)[:images]
    if not records:
        raise UserError("there is nothing to look at: the test set is empty")
    for record in records:
        check_image(record["file_name"])
    return records


def _name_classes(dataset):
    """Makes the names of a data set's classes known, for which ImageNet's images need not be there."""
    try:
        load_records(dataset)
    except UserError:
        if not metadata_of(dataset).get("image_classes"):
            raise


def _list_images(inputs):
    files = []
    for entry in inputs:
        if os.path.isdir(entry):
            files += [os.path.join(entry, name) for name in sorted(filter(is_image_name, os.listdir(entry)))]
        elif os.path.isfile(entry):
            files.append(entry)
        else:
            raise UserError(f"there is no image or folder {entry}")
    if not files:
        raise UserError(f"there is no image ({', '.join(IMAGE_SUFFIXES)}) in {', '.join(inputs)}")
    return [{"file_name": file} for file in files]
