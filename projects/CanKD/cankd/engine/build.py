"""Building what a config describes: models with their weights, and the data that they want."""

from collections.abc import Callable
from typing import Any

import torch
from cankd.checkpoint import load_all_weights
from cankd.data import FileNamingMapper
from cankd.modeling import Distiller, Teacher, check_anchors
from cankd.utils import UserError, orders_differ, preserved_random_state, where
from detectron2.config import instantiate
from detectron2.modeling.meta_arch.fcos import FCOSHead
from omegaconf import DictConfig
from torch import nn

from .preflight import check_device

__all__ = [
    "build_loader",
    "build_mapper",
    "build_model",
    "build_optimizer",
    "build_part",
    "build_teacher",
    "is_distillation",
    "load_student",
    "read_format",
    "student_of",
    "test_data",
    "teacher_model",
]


def is_distillation(config: DictConfig) -> bool:
    """Tells whether a config describes a student and its teacher, and not one model."""
    return {"student", "teacher"} <= set(config.model)


def build_model(config: DictConfig) -> nn.Module:
    """Builds a config's model, on its device.

    A distiller's student is built first and all else beside the random numbers' main path, so that the same seed gives
    the same initial student, and later the same batches, with and without distillation.

    Args:
        config: with ``model`` and ``train.device``.

    Raises:
        UserError: if the device does not exist, a part of the model cannot be built, or the student's head does not
            fit its anchors.
    """
    model = config.model
    if is_distillation(config):
        student = build_part("model.student", model.student)
        with preserved_random_state():
            model = build_part("model, with teacher and head,", {**model, "student": student})
    else:
        model = build_part("model", model)
    check_anchors(student_of(model))
    if config.train.get("amp", {}).get("enabled"):
        for module in model.modules():
            if isinstance(module, FCOSHead):  # Detectron2's losses write what is float32 into what it gives
                module.register_forward_hook(_give_float32)
    check_device(config.train.device)
    return model.to(config.train.device)


def _give_float32(_module, _inputs, outputs):
    return tuple([level.float() for level in levels] for levels in outputs)


def build_part(name: str, config: DictConfig, build: Callable[[DictConfig], Any] = instantiate) -> Any:
    """Builds a part of a config.

    Args:
        name: of the part, for the message.
        config: a lazy call.
        build: makes the part of it.

    Raises:
        UserError: if it fails in any way.
    """
    try:
        return build(config)
    except UserError:
        raise
    except Exception as error:  # the options are the user's
        raise UserError(f"{name} cannot be built: {type(error).__name__}: {error} ({where(error)})") from error


def build_mapper(mapper: DictConfig) -> Callable[[dict], dict]:
    """Builds a data loader's mapper.

    Raises:
        UserError: if it fails in any way.
    """
    return build_part("the data loader's mapper", mapper)


def build_teacher(config: DictConfig) -> Teacher:
    """Builds the teacher of a distiller's config.

    Raises:
        UserError: if the config describes a plain model, or it fails in any way.
    """
    if not is_distillation(config):
        raise UserError("this config has no teacher: it describes a plain model")
    return build_part("model.teacher", config.model.teacher)


def build_loader(loader: DictConfig, *, mapper: Callable[[dict], dict] | None = None, **replaced) -> Any:
    """Builds a data loader of a config, whose mapper names the image that it fails on.

    Args:
        loader: ``dataloader.train`` or ``.test``.
        mapper: its mapper, if that is built already.
        replaced: values of other arguments, such as ``dataset``.

    Raises:
        UserError: if it cannot be built.
    """
    if "mapper" in loader:
        mapper = mapper or build_mapper(loader.mapper)
        replaced["mapper"] = FileNamingMapper(mapper)
    return build_part("the data loader", {**loader, **replaced})


def test_data(config: DictConfig) -> DictConfig:
    """Returns ``dataloader.test`` of a config.

    Raises:
        UserError: if there is none.
    """
    if config.dataloader.get("test") is None:
        raise UserError("the config has no dataloader.test (DATASETS.TEST of a yacs config), which is needed here")
    return config.dataloader.test


def build_optimizer(config: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Builds a config's optimizer of a model's parameters.

    Raises:
        UserError: if it cannot be built.
    """
    return build_part("optimizer", {**config.optimizer, "params": {**config.optimizer.params, "model": model}})


def student_of(model: nn.Module) -> nn.Module:
    """Returns what is trained, saved and evaluated: a distiller's student, or the model itself."""
    return model.student if isinstance(model, Distiller) else model


def load_student(config: DictConfig, checkpoint: str, role: str) -> nn.Module:
    """Builds the student of a distiller's config, or a plain config's model, with the weights of a checkpoint.

    Args:
        config: with ``model``.
        checkpoint: has to have every weight.
        role: what the model is, for messages.

    Raises:
        UserError: if the model cannot be built, there is no checkpoint, or it is not of this model.
    """
    model = build_part(
        "model.student" if is_distillation(config) else "model", config.model.get("student", config.model)
    )
    load_all_weights(model, checkpoint, role)
    return model


def read_format(loader: DictConfig) -> str | None:
    """Returns the channel order in which a data loader's mapper reads images, None if it does not say."""
    return getattr(loader.get("mapper"), "image_format", None)  # of a lazy call, or of any function


def teacher_model(teacher: Teacher, loader: DictConfig) -> nn.Module:
    """Returns the teacher's model, for records as a data loader gives them: in another channel order or size than its.

    Args:
        teacher: whose ``input_format`` and ``scale`` count.
        loader: config of the loader.
    """
    source = read_format(loader)
    if teacher.scale == 1 and not orders_differ(source, teacher.input_format):
        return teacher.model
    return _Viewing(teacher, source)


class _Viewing(nn.Module):
    """A teacher's model behind the change of its images."""

    def __init__(self, teacher, input_format):
        super().__init__()
        self.teacher = teacher
        self.input_format = input_format

    def forward(self, batched_inputs):
        return self.teacher.model(self.teacher.view(batched_inputs, self.input_format))
