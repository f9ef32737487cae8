import copy
import os

from cankd.modeling import CanKDHead, Distiller, Teacher
from cankd.utils import UserError
from detectron2.config import CfgNode
from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from .build import is_distillation, read_format
from .config_file import read_config
from .methods import is_as_published, use_method

__all__ = ["change_method", "distill"]


def distill(
    config: str | DictConfig | CfgNode,
    *,
    teacher: str | DictConfig | CfgNode,
    weights: str,
    method: str = "cankd",
    inherit: bool = False,
) -> DictConfig:
    """Returns the config of a distillation: a student's config with a teacher beside it.

    The student keeps its data, optimizer and schedule; ``train.output_dir`` gets the method's name behind it. Levels
    are P3 to P5 where both have them, otherwise those that pair up by their strides.

    Args:
        config: the student's, any of Detectron2's: LazyConfig or yacs, the config itself, its file, or a name of the
            model zoo. Of a distillation, its student's.
        teacher: likewise the teacher's; only its model counts, and the channel order in which its data is read.
        weights: checkpoint of the teacher.
        method: see :func:`use_method`.
        inherit: whether the student starts from the teacher's neck and head as far as they fit (†).

    Raises:
        UserError: if a config cannot be used, or the method is unknown.
    """
    config, teacher = read_config(config), read_config(teacher, needed=("model",))
    config.model = L(Distiller)(
        student=_plain_model(config),
        teacher=L(Teacher)(model=_teacher_model(teacher), weights=weights, input_format=_read_format(teacher)),
        head=L(CanKDHead)(levels=None),
        input_format=_read_format(config),
    )
    config.train.inherit = None
    config = use_method(config, method, inherit=inherit)
    return _rename_output(config, method, inherit)


def change_method(config: DictConfig, method: str, inherit: bool) -> DictConfig:
    """Returns the config of a distillation with another method; ``train.output_dir`` gets its name behind it.

    Args:
        config: of a distillation. If its student inherits, it goes on to, unless the method is asked for as published.
        method: see :func:`use_method`; "" for the config's own.
        inherit: whether the student inherits even if the config does not say so.

    Raises:
        UserError: if the config has no teacher, or the method is unknown.
    """
    if not is_distillation(config):
        raise UserError("--method and --inherit need a teacher: give --teacher and --teacher-weights, or such a config")
    if method:
        goes_on = bool(config.train.inherit) and not is_as_published(method)
        config = use_method(config, method, inherit=inherit or goes_on)
    elif inherit:
        config.train.inherit = config.train.inherit or "auto"
    return _rename_output(config, method, inherit)


def _rename_output(config, method, inherit):
    stem = os.path.splitext(os.path.basename(method))[0].replace("+", "_")  # a method may be a file
    inheriting = "inherit" if inherit and not stem.endswith("_inherit") else ""
    parts = [os.path.normpath(config.train.output_dir), stem, inheriting]
    config.train.output_dir = "_".join(filter(None, parts))
    return config


def _plain_model(config):
    return config.model.get("student", config.model)


def _teacher_model(teacher):
    model = copy.deepcopy(_plain_model(teacher))
    if "yacs" in model:
        model.yacs = teacher.train.yacs  # the text itself, as the student may have one, too
    return model


def _read_format(config):
    """Returns the channel order in which a config's data is read, None if it does not say."""
    loaders = config.get("dataloader") or {}
    formats = [read_format(loaders[split]) for split in ("train", "test") if split in loaders]
    return next(filter(None, formats), None)
