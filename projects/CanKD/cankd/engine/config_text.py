import functools
import json
import os
import re
import tempfile
from collections.abc import Mapping

from cankd.utils import replace_file
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

__all__ = ["config_yaml", "describe_config", "save_config"]


def config_yaml(config: DictConfig) -> str:
    """Returns what ``LazyConfig.save`` writes."""
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "config.yaml")
        LazyConfig.save(config, path)
        with open(path) as f:
            return f.read()


def save_config(config: DictConfig, path: str) -> None:
    """Saves a config as ``LazyConfig.save`` does, but whole or not at all."""
    text = config_yaml(config)
    with replace_file(path, "w") as f:
        f.write(text)


def describe_config(config: Mapping) -> str:
    """Returns a text that changes when a config does, and is the same on every machine."""
    plain = OmegaConf.to_container(OmegaConf.create(config, flags={"allow_objects": True}))
    return json.dumps(plain, sort_keys=True, default=_describe)


def _describe(value):
    """Describes what JSON does not know, without its address in memory."""
    if isinstance(value, functools.partial):
        return [_describe(value.func), value.args, value.keywords]
    if not hasattr(value, "__qualname__") and type(value).__repr__ is not object.__repr__:
        return repr(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    # Detectron2 gives what a config imports from a file beside it another package at each load.
    module = re.sub(r"^detectron2\._cfg_loader\w{4}\.", "", str(named.__module__))
    return f"{module}.{named.__qualname__}"
