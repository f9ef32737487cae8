"""What the numbers, switches and texts of a config may be. What only one class knows is checked by that class."""

import difflib
import functools
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

from cankd.utils import UserError
from omegaconf import DictConfig
from PIL import Image

__all__ = ["check_options", "did_you_mean"]


class _Kind(NamedTuple):
    """Values that an option may have."""

    description: str
    accepts: Callable[[Any], bool]


def _whole(least):
    return _Kind(f"a whole number, at least {least}", lambda value: type(value) is int and value >= least)


def _optional(kind):
    return _Kind(f"{kind.description}, or null", lambda value: value is None or kind.accepts(value))


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _are_texts(value):
    return isinstance(value, Collection) and not isinstance(value, str) and all(isinstance(key, str) for key in value)


_NUMBER = _Kind("a number", _is_number)
_NOT_NEGATIVE = _Kind("a number, at least 0", lambda value: _is_number(value) and value >= 0)
_SWITCH = _Kind("true or false", lambda value: isinstance(value, bool))
_TEXT = _Kind("a text", lambda value: isinstance(value, str))
_PATTERNS = _Kind(
    '"auto", a list of wildcards, a map between them, or null',
    lambda value: value in (None, "auto") or _are_texts(value),
)
_FORMATS = "BGR", "YUV-BT.601", *Image.MODES  # those that Detectron2 reads images in
_FORMAT = _optional(
    _Kind("BGR, RGB or another format that Detectron2 reads images in", lambda value: value in _FORMATS)
)

_PART = _Kind("a part with options of its own", lambda value: isinstance(value, Mapping))

_OPTIONS = {
    **dict.fromkeys(("model", "dataloader", "train"), _PART),
    **{
        f"train.{name}": _PART
        for name in ("amp", "checkpointer", "clip_gradients", "ddp", "distillation", "early_stopping", "ema", "wandb")
    },
    "train.output_dir": _Kind(
        "a path, with $HOME instead of ~",
        lambda value: isinstance(value, (str, os.PathLike)) and not str(value).startswith("~"),
    ),
    "train.init_checkpoint": _optional(_TEXT),
    "train.device": _TEXT,
    "train.seed": _Kind("a whole number; -1 is for a random seed", lambda value: type(value) is int),
    "train.inherit": _PATTERNS,
    "train.max_iter": _whole(1),
    "train.log_period": _whole(1),
    "train.eval_period": _whole(0),
    "train.checkpointer.period": _whole(1),
    "train.checkpointer.max_to_keep": _optional(_whole(1)),
    "train.reference_batch_size": _whole(0),
    "train.accumulate": _whole(1),
    "train.amp.enabled": _SWITCH,
    "train.ema.enabled": _SWITCH,
    "train.ema.decay": _NOT_NEGATIVE,
    "train.clip_gradients.max_norm": _optional(_NOT_NEGATIVE),
    "train.distillation.warmup_iters": _whole(0),
    "train.distillation.stop_iter": _optional(_whole(0)),
    "train.best": _optional(_TEXT),
    "train.early_stopping.patience": _optional(_whole(1)),
    "train.early_stopping.min_delta": _NOT_NEGATIVE,
    "train.skip_broken": _SWITCH,
    "train.read_all_images": _SWITCH,
    "optimizer.lr": _NOT_NEGATIVE,
    "optimizer.momentum": _NOT_NEGATIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "dataloader.train.total_batch_size": _optional(_whole(1)),
    "dataloader.train.num_workers": _whole(0),
    "dataloader.train.mapper.image_format": _FORMAT,
    "dataloader.test.batch_size": _whole(1),
    "dataloader.test.num_workers": _whole(0),
    "dataloader.test.mapper.image_format": _FORMAT,
    "model.input_format": _FORMAT,
    "model.head.weight": _NUMBER,
    "model.teacher.input_format": _FORMAT,
    "model.teacher.scale": _NUMBER,
}


# Groups whose options are all known.
_GROUPS = {
    "train.clip_gradients": ("max_norm", "norm_type"),
    "train.distillation": ("warmup_iters", "stop_iter", "unlabelled"),
    "train.early_stopping": ("patience", "min_delta"),
    "train.ema": ("enabled", "decay"),
}


def check_options(config: DictConfig) -> None:
    """Makes sure that the options which a config has exist and are of the right kind.

    Args:
        config: what it lacks is not missed.

    Raises:
        UserError: if one is not.
    """
    for key, kind in _OPTIONS.items():
        value = functools.reduce(_entry, key.split("."), config)
        if value is not _ABSENT and not kind.accepts(value):
            raise UserError(f"{key} is {value!r}; it has to be {kind.description}")
    for group, known in _GROUPS.items():
        options = functools.reduce(_entry, group.split("."), config)
        for name in options if options is not _ABSENT else ():
            if name not in known:
                listed = f"{', '.join(known)}{did_you_mean(name, known)}"
                raise UserError(f"there is no option {group}.{name}; {group} has {listed}")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns the end of a message that asks for the nearest known name; nothing if none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


_ABSENT = object()


def _entry(node, name):
    return node.get(name, _ABSENT) if isinstance(node, Mapping) else _ABSENT
