import difflib
import os
from collections.abc import Sequence

from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf

__all__ = ["load_config"]


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Reads a LazyConfig file and applies ``key=value`` overrides.

    Args:
        path: the ``.py`` or ``.yaml`` file.
        overrides: as on Detectron2's command line. A key has to exist, unless it is a new argument of a lazy call.

    Raises:
        ValueError: if the file is absent or fails, lacks the parts of a training config, or a key is unknown.
    """
    if not os.path.isfile(path):
        raise ValueError(f"there is no config file {path or '(none given)'}: give one by --config-file")
    try:
        config = LazyConfig.load(path)
    except Exception as error:  # a config is code: anything can go wrong in it
        cause = error.__cause__ or error
        raise ValueError(f"the config {path} fails with {type(cause).__name__}: {cause}") from error
    needed = {"model", "train", "dataloader"}
    if absent := needed - set(config):
        raise ValueError(
            f"the config {path} defines no {' and no '.join(sorted(absent))}; a config of this script has "
            "model, dataloader, optimizer, lr_multiplier and train, as Detectron2's have"
        )
    for override in overrides:
        _check_key(config, override.split("=")[0].lstrip("+"), override)
    try:
        return LazyConfig.apply_overrides(config, list(overrides))
    except Exception as error:
        raise ValueError(f"the overrides {list(overrides)} cannot be applied: {error}") from error


def _check_key(config, key, override):
    if "=" not in override:
        raise ValueError(f"{override!r} is no override: write key=value, for example train.max_iter=1000")
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not OmegaConf.is_dict(node):
        raise ValueError(f"the config has no {parent!r}, which the override {override!r} would change")
    if name not in node and "_target_" not in node:
        close = difflib.get_close_matches(name, map(str, node), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"the config has no {key!r}; {parent or 'it'} has {', '.join(map(str, node))}{hint}")
