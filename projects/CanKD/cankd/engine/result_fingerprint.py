"""Short texts that change when what decides a training's result changes."""

import copy
import functools
import hashlib
import inspect
import json
import os
import types
from collections.abc import Iterator, Mapping
from typing import Any

from cankd.data import dataset_names
from cankd.utils import is_own_file
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig, OmegaConf

from .build import test_data
from .config_text import describe_config
from .yacs_file import parse_yacs

__all__ = [
    "changed_fingerprints",
    "code_fingerprint",
    "decisive_options",
    "fingerprints_agree",
    "result_fingerprints",
    "teacher_fingerprints",
]

# What of a yacs config says where and how fast a run is made, and how often it is saved and evaluated on the way; and
# what train.seed and train.init_checkpoint say, too.
_NEUTRAL_KEYS = (
    "OUTPUT_DIR",
    "CUDNN_BENCHMARK",
    "SEED",
    "VIS_PERIOD",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
)


def result_fingerprints(config: DictConfig) -> dict[str, str]:
    """Names all that decides the result of a training.

    Returns:
        "config", "weights" of the checkpoints that it starts from, and "data" of the annotation files; "" where
        something is not known, as the data of Digit Scenes before their first use.
    """
    data = config.dataloader.train, test_data(config)
    return {
        "config": config_fingerprint(config),
        "weights": _weights_fingerprint(config),
        "data": _data_fingerprint(*data),
    }


def teacher_fingerprints(config: DictConfig) -> dict[str, str]:
    """Names all that decides the teacher's metrics: itself and what it is evaluated on; as the above."""
    test, evaluator = {**test_data(config), "num_workers": 0}, config.dataloader.get("evaluator")
    described = describe_config({"teacher": _without_paths(config).model.teacher, "test": test, "evaluator": evaluator})
    return {
        "config": hashlib.sha256(described.encode()).hexdigest(),
        "weights": _hash_files(config.model.teacher.weights),
        "data": _data_fingerprint(test_data(config)),
    }


def fingerprints_agree(found: Mapping[str, Any], fingerprints: Mapping[str, str]) -> bool:
    """Tells whether what was written down once is what holds now, as far as both are known."""
    return not changed_fingerprints(found, fingerprints)


def changed_fingerprints(found: Mapping[str, Any], fingerprints: Mapping[str, str]) -> list[str]:
    """Returns the keys of what was another when it was written down, as far as both are known."""
    return [key for key, value in fingerprints.items() if value and found.get(key) not in (value, "", None)]


def config_fingerprint(config: DictConfig) -> str:
    """Names what of a config decides a result: not where and how fast it is made."""
    return hashlib.sha256(_describe_decisive(config).encode()).hexdigest()


def decisive_options(config: DictConfig) -> dict[str, Any]:
    """Returns the options that :func:`config_fingerprint` names, by their keys with dots."""
    return dict(_flatten(json.loads(_describe_decisive(config))))


def _flatten(options, prefix=""):
    for key, value in options.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _describe_decisive(config):
    config = _without_paths(config)
    for loader in (config.dataloader.train, config.dataloader.test):
        loader.num_workers = 0
    decisive = ("max_iter", "seed", "init_checkpoint", "inherit", "distillation", "clip_gradients", "amp", "yacs")
    train = {key: config.train[key] for key in decisive if key in config.train}
    if "amp" in train and not train["amp"].enabled:
        train["amp"].precision = "bfloat16"  # unused, and the default depends on whether there is a GPU
    if "yacs" in train:
        train["yacs"] = _decisive_yacs(train["yacs"])
    # Younger options count only where they are used: results from before them stay valid.
    config.train = {**train, **dict(_used_options(config.train))}
    return describe_config(config)


def code_fingerprint(config: DictConfig) -> str:
    """Names the contents of the files of the user's own that the config's functions and methods are from."""
    values = _values(OmegaConf.to_container(config, resolve=False))
    files = {file for value in values for file in _source_files(value) if is_own_file(file)}
    return _hash_files(*sorted(files))


def _without_paths(config):
    """Returns a config without the paths of its checkpoints, whose contents are named by themselves."""
    config = copy.deepcopy(config)
    for part, key in ((config.train, "init_checkpoint"), (config.model.teacher, "weights")):
        path, question_mark, how = (part.get(key) or "").partition("?")
        if os.path.isfile(path):
            part[key] = f"a file{question_mark}{how}"
    return config


def _decisive_yacs(text):
    config, defaults = parse_yacs(text), get_cfg()
    for key in _NEUTRAL_KEYS:
        config.merge_from_list([key, functools.reduce(getattr, key.split("."), defaults)])
    return config.dump()


def _used_options(train):
    """Yields the options that change a result only if they are set."""
    if train.get("ema", {}).get("enabled"):
        yield "ema", train.ema
    if train.get("accumulate", 1) > 1:
        yield "accumulate", train.accumulate
    if train.get("early_stopping", {}).get("patience") is not None:
        yield "early_stopping", {**train.early_stopping, "best": train.best, "eval_period": train.eval_period}


def _weights_fingerprint(config):
    """Names the contents of the checkpoints that a training starts from, as far as they are files."""
    takes_teacher = config.train.inherit or config.model.head.get("weight") != 0
    return _hash_files(config.train.init_checkpoint, config.model.teacher.weights if takes_teacher else "")


def _data_fingerprint(*loaders):
    """Names the contents of the annotation files; "" if one is not known yet."""
    names = [name for loader in loaders if "dataset" in loader for name in dataset_names(loader.dataset)]
    files = [MetadataCatalog.get(name).get("json_file") or "" for name in names]
    return _hash_files(*files) if all(map(os.path.isfile, files)) else ""


def _hash_files(*paths):
    files = [path.split("?")[0] for path in paths if path]  # Detectron2 takes ?matching_heuristics=True behind a path
    return " ".join(_hash_file(path, os.stat(path).st_mtime_ns) for path in files if os.path.isfile(path))


@functools.cache
def _hash_file(path, _date):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _values(node: Any) -> Iterator[Any]:
    """Yields the classes, functions and objects of a config."""
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _values(value)
    elif not isinstance(node, (str, int, float, type(None))):
        yield node


def _source_files(value):
    """Yields the files that a function, or the methods of a class or of an object's class, are from."""
    if isinstance(value, functools.partial):
        value = value.func
    named = value if hasattr(value, "__qualname__") else type(value)
    for function in vars(named).values() if isinstance(named, type) else [named]:
        code = getattr(inspect.unwrap(function), "__code__", None)
        if isinstance(code, types.CodeType):
            yield code.co_filename
