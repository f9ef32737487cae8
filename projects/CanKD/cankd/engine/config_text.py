import functools
import json
import os
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
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)
