"""Reading Detectron2's older configs, yacs files, without running code in them."""

import logging
import os
from collections.abc import Sequence

import detectron2.model_zoo
import yaml
from cankd.utils import UserError, replace_file
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.file_io import PathManager

from .option_checks import did_you_mean

__all__ = ["is_yacs_file", "is_yaml", "parse_yacs", "read_yacs", "save_yacs"]

_MODEL_ZOO = os.path.dirname(os.path.realpath(detectron2.model_zoo.__file__)) + os.sep


def is_yaml(path: str) -> bool:
    """Tells whether a file's name is one of a YAML file."""
    return path.endswith((".yaml", ".yml"))


def is_yacs_file(path: str) -> bool:
    """Tells whether a ``.yaml`` file is a yacs config, whose keys are in capitals, and not a saved LazyConfig."""
    if not is_yaml(path):
        return False
    with PathManager.open(path) as f:
        root = yaml.compose(f, yaml.SafeLoader)  # builds no objects
    keys = [key.value for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    return "model" not in keys and any(
        str(key).isupper() for key in keys
    )  # a LazyConfig may have a constant in capitals


def read_yacs(path: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Reads a yacs file and those that it is based on (``_BASE_``).

    Args:
        path: of the file.
        overrides: ``KEY=value``, for example "SOLVER.BASE_LR=0.01".

    Raises:
        UserError: if a file is absent or cannot be used, an option is unknown, or a file outside Detectron2's model zoo
            holds code.
    """
    config = _SafeCfgNode(get_cfg())
    try:
        config.merge_from_file(path)
    except yaml.constructor.ConstructorError as error:
        mark = error.problem_mark
        raise UserError(
            f"the config {path} is not read, as {mark.name}, line {mark.line + 1}, holds code or a Python object "
            "(a tag such as !!python): write the values out, or base it on the file in Detectron2's model zoo"
        ) from error
    except KeyError as error:
        raise UserError(
            f"the config {path} cannot be used: {error.args[0]}. Options that a project of Detectron2 adds are known "
            "in Python alone: give the CfgNode to cankd.distill"
        ) from error
    except Exception as error:  # the file is the user's
        raise UserError(f"the config {path} cannot be used ({type(error).__name__}: {error})") from error
    if incomplete := [override for override in overrides if "=" not in override]:
        raise UserError(f"{incomplete[0]} has no value: write {incomplete[0]}=value, with an equals sign")
    for override in overrides:
        key, value = override.split("=", 1)
        present = _find(config, key, path)
        try:
            config.merge_from_list([key, value])
        except Exception as error:
            advice = (
                f'. It takes several values: write "{key}=(\'…\',)" or "{key}=(1, 2)"' if type(present) is tuple else ""
            )
            raise UserError(f"the override {override} cannot be applied to {path}: {error}{advice}") from error
    return config


def _find(config, key, path):
    """Returns the value of an option; if there is none, the error names the first part of its key that is not there."""
    node = config
    for depth, name in enumerate(parts := key.split("."), start=1):
        known = list(node) if isinstance(node, CfgNode) else []
        if name not in known:
            raise UserError(f"the config {path} has no {'.'.join(parts[:depth])}{did_you_mean(name, known)}")
        node = node[name]
    return node


def parse_yacs(text: str) -> CfgNode:
    """Returns the config that :meth:`CfgNode.dump` wrote.

    Args:
        text: may have options that Detectron2 does not know.
    """
    config = get_cfg()
    config.set_new_allowed(True)
    config.merge_from_other_cfg(CfgNode.load_cfg(text))
    return config


def save_yacs(text: str, path: str, *, weights: str, device: str) -> None:
    """Writes the config by which Detectron2's ``DefaultPredictor`` loads a trained model.

    Args:
        text: of the model's config.
        path: file to write.
        weights: the model's checkpoint.
        device: where it is to run.
    """
    config = parse_yacs(text)
    config.MODEL.WEIGHTS, config.MODEL.DEVICE = os.path.abspath(weights), device
    with replace_file(path, "w") as f:
        f.write(config.dump())


class _SafeCfgNode(CfgNode):
    """Runs code, Detectron2's list of anchor sizes, only from files of Detectron2's own model zoo."""

    @classmethod
    def load_yaml_with_base(cls, filename, allow_unsafe=False):
        trusted = os.path.realpath(filename).startswith(_MODEL_ZOO)
        logger = logging.getLogger("fvcore.common.config")  # warns of a risk that there is not
        logger.disabled = trusted
        try:
            return super().load_yaml_with_base(filename, allow_unsafe=trusted)
        finally:
            logger.disabled = False
