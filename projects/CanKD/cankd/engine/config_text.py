import functools
import json
from collections.abc import Mapping

from omegaconf import OmegaConf

__all__ = ["describe_config"]


def describe_config(config: Mapping) -> str:
    """Returns a text that changes when a config does, and is the same on every machine."""
    plain = OmegaConf.to_container(OmegaConf.create(config, flags={"allow_objects": True}))
    return json.dumps(plain, sort_keys=True, default=_describe)


def _describe(value):
    """Describes what JSON does not know, without its address in memory."""
    if isinstance(value, functools.partial):
        return [_describe(value.func), value.args, value.keywords]
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)
