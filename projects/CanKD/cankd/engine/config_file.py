"""Reading a config, whatever kind of Detectron2's it is: a file, a name of the model zoo, or an object."""

import copy
import os
from collections.abc import Sequence

import detectron2.model_zoo
from cankd import model_zoo
from cankd.utils import UserError, place_of, where
from detectron2.config import CfgNode, LazyConfig
from omegaconf import DictConfig, OmegaConf

from .yacs_config import convert_yacs
from .yacs_file import is_yacs_file, is_yaml, read_yacs

__all__ = ["find_config_file", "read_config"]


def find_config_file(path: str) -> str:
    """Returns the path of a config file.

    Args:
        path: of a file, or a name of Detectron2's model zoo, as "COCO-Detection/retinanet_R_50_FPN_1x.yaml".

    Raises:
        UserError: if there is neither.
    """
    if os.path.isfile(path):
        return path
    try:
        found = detectron2.model_zoo.get_config_file(path)
    except RuntimeError:
        found = ""
    if not os.path.isfile(found):
        if not path:
            raise UserError("no config file is given: give one by --config-file")
        raise UserError(
            f"there is no config file {path}{place_of(path)}, and Detectron2's model zoo has none of this name (they "
            "have a folder, as COCO-Detection/retinanet_R_50_FPN_1x.yaml)"
        )
    return found


def read_config(
    config: str | DictConfig | CfgNode,
    yacs_overrides: Sequence[str] = (),
    *,
    needed: Sequence[str] = ("model", "train", "dataloader"),
) -> DictConfig:
    """Reads a config; yacs becomes a LazyConfig.

    Args:
        config: a LazyConfig or yacs config, or its file, see :func:`find_config_file`: ``.py`` of a LazyConfig, which
            is code; ``.yaml`` of a yacs config, which is plain values. Options that ``train`` lacks come from
            ``configs/common/train.py``, so that a plain Detectron2 config will do.
        yacs_overrides: ``KEY=value``, for a yacs file alone.
        needed: parts that have to be there.

    Raises:
        UserError: if the file is absent or fails, it is a LazyConfig in YAML, or a part is missing.
    """
    if isinstance(config, str):
        path = find_config_file(config)
        called, config = f"the config {path}", _read_file(path, yacs_overrides)
    else:
        called, config = "the config", copy.deepcopy(config)
    if isinstance(config, CfgNode):
        config = convert_yacs(config)
    elif yacs_overrides:
        raise UserError(f"the overrides {list(yacs_overrides)} need a yacs config, and {called} is none")
    if absent := set(needed) - set(config):
        raise UserError(
            f"{called} defines no {' and no '.join(sorted(absent))}; a config of this script has "
            "model, dataloader, optimizer, lr_multiplier and train, as Detectron2's have"
        )
    if "train" in config:
        config.train = OmegaConf.merge(model_zoo.get_config("common/train.py").train, config.train)
    return config


def _read_file(path, yacs_overrides):
    try:
        if is_yacs_file(path):
            return read_yacs(path, yacs_overrides)
        if is_yaml(path):
            raise UserError(
                f"the config {path} is no yacs config. A LazyConfig in YAML, such as a run's config.yaml, is for "
                "reading only: the callables that it names would be run. Give the .py that it came from"
            )
        return LazyConfig.load(path)
    except UserError:
        raise
    except Exception as error:  # a config is code: anything can go wrong in it
        raise UserError(f"the config {path} fails with {type(error).__name__}: {_describe(error, path)}") from error


def _describe(error, path):
    """Returns the message of a config's failure, with file and line; YAML's own messages have them."""
    if isinstance(error.__cause__, SyntaxError):  # Detectron2's error names the file, Python's the line
        return f"{error} {error.__cause__.msg}, line {error.__cause__.lineno}"
    message = str(error)
    if "is already registered" in message:
        message += " A config may be read twice: register a data set only `if NAME not in DatasetCatalog`"
    return f"{message} ({where(error)})" if path.endswith(".py") else message
