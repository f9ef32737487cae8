import inspect
import logging
import re
from collections.abc import Sequence

from cankd.data import register_datasets
from cankd.utils import UserError, target_of
from detectron2.config import LazyConfig
from detectron2.utils.logger import log_first_n
from omegaconf import DictConfig, OmegaConf

from .config_file import read_config
from .distillation_config import change_method, distill
from .option_checks import check_options, did_you_mean
from .unlabelled import UNLABELLED_KEY, UNLABELLED_OPTIONS

__all__ = ["apply_overrides", "load_config", "scale_to_batch_size"]

_BATCH_SIZE = "dataloader.train.total_batch_size"
_REFERENCE = "train.reference_batch_size"
_ABSENT_BY_DEFAULT = {"train.distillation": ("unlabelled",), UNLABELLED_KEY: UNLABELLED_OPTIONS}


def load_config(
    path: str,
    overrides: Sequence[str] = (),
    *,
    datasets: str = "",
    teacher: str = "",
    weights: str = "",
    method: str = "",
    inherit: bool = False,
) -> DictConfig:
    """Reads a config file and applies overrides.

    Args:
        path: of a LazyConfig (``.py``) or yacs file (``.yaml``), or a name of Detectron2's model zoo, see
            :func:`read_config`.
        overrides: ``key=value``, as on Detectron2's command line. A key has to exist or be an argument of a lazy call.
            Keys of a yacs file, in capitals, change what is read. If ``dataloader.train.total_batch_size`` is among
            them, it rescales what the others do not set, from the file's own batch size, see
            :func:`scale_to_batch_size`. What the file says is never rescaled without it.
        datasets: a Python file that registers data sets, run before.
        teacher: the teacher's config, likewise; the file's model is its student then.
        weights: the teacher's checkpoint.
        method: see :func:`use_method`. Of a config that has a teacher already, it takes the place of the config's own.
        inherit: whether the student starts from the teacher's neck and head as far as they fit (†).

    Raises:
        UserError: if the file is absent or fails, lacks the parts of a training config, a key is unknown, or an option
            has a value of the wrong kind.
    """
    if datasets:
        register_datasets(datasets)
    of_yacs = [override for override in overrides if re.match(r"[A-Z][A-Z_]+[.=]", override)]
    config = read_config(path, of_yacs)
    if teacher:
        config = distill(config, teacher=teacher, weights=weights, method=method or "cankd", inherit=inherit)
    elif method or inherit:
        config = change_method(config, method, inherit)
    if config.train.reference_batch_size:  # the file may have inherited another, with other numbers
        config.train.reference_batch_size = OmegaConf.select(config, _BATCH_SIZE) or config.train.reference_batch_size
    apply_overrides(config, [override for override in overrides if override not in of_yacs])
    return config


def apply_overrides(config: DictConfig, overrides: Sequence[str]) -> None:
    """Changes options. A batch size comes first, so that what it rescales gives way to the other overrides.

    Args:
        config: is changed in place.
        overrides: see :func:`load_config`; none of a yacs file.

    Raises:
        UserError: if a key is unknown, or an option has a value of the wrong kind.
    """
    keys = [override.split("=")[0].lstrip("+") for override in overrides]
    for key, override in zip(keys, overrides):
        _check_key(config, key, override)
    first = [override for key, override in zip(keys, overrides) if key in (_BATCH_SIZE, _REFERENCE)]
    _apply(config, first)
    if _BATCH_SIZE in keys:
        check_options(config)
        scale_to_batch_size(config)
    _apply(config, [override for override in overrides if override not in first])
    check_options(config)


def _apply(config, overrides):
    try:
        LazyConfig.apply_overrides(config, overrides)
    except Exception as error:
        if override := getattr(error, "override", None):  # that hydra cannot parse
            raise UserError(
                f"{override} cannot be read: a value with other characters than letters, digits and ._/:- needs quotes "
                f"of its own, within those of the shell: \"{override.partition('=')[0]}='…'\""
            ) from error
        raise UserError(f"the overrides {overrides} cannot be applied: {error}") from error


def scale_to_batch_size(config: DictConfig) -> None:
    """Fits learning rate and schedule to the total batch size where it is not the one that they are meant for.

    The rate scales linearly (Goyal et al. 2018), all numbers of iterations inversely: the images seen stay as many.

    Args:
        config: is changed in place. What it says is meant for ``train.reference_batch_size``, which is then the batch
            size; 0 leaves all as it is.

    Raises:
        UserError: if there is no learning rate to fit.
    """
    train, reference = config.train, config.train.reference_batch_size
    batch_size = config.dataloader.get("train", {}).get("total_batch_size", reference)
    if not reference or batch_size in (None, reference):
        return
    factor = batch_size / reference
    if "lr" not in config.optimizer:
        raise UserError(
            f"the total batch size is {batch_size} instead of {reference}, and optimizer has no lr that could be "
            "fitted to it: add train.reference_batch_size=0, or name the learning rate lr"
        )
    config.optimizer.lr *= factor
    for node, key in (
        (train, "max_iter"),
        (train, "eval_period"),
        (train.checkpointer, "period"),
        (train.distillation, "warmup_iters"),
        (train.distillation, "stop_iter"),
    ):
        if node[key]:
            node[key] = max(1, round(node[key] / factor))
    train.reference_batch_size = batch_size
    log_first_n(
        logging.WARNING,
        f"Total batch size {batch_size} instead of {reference}: optimizer.lr is now {config.optimizer.lr:g}, and the "
        f"schedule has {1 / factor:g} times as many iterations, unless you give them yourself. "
        "train.reference_batch_size=0 leaves them as they are.",
        key="message",
    )


def _check_key(config, key, override):
    if "=" not in override:
        raise UserError(f"{override!r} is no override: write key=value, for example train.max_iter=1000")
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if node is None and parent in _ABSENT_BY_DEFAULT:
        node = OmegaConf.create()
    if OmegaConf.is_list(node):
        raise UserError(f"{parent!r} is a list, which can only be overridden whole: {parent}=[…]")
    if not OmegaConf.is_dict(node):
        raise UserError(f"the config has no {parent!r}, which the override {override!r} would change")
    known = [str(known) for known in node if known != "_target_"]
    if "_target_" in node:
        arguments = _arguments(target_of(node))
        if arguments is None:
            return
        known += [name for name in arguments if name not in known]
    known += [name for name in _ABSENT_BY_DEFAULT.get(parent, ()) if name not in known]
    if name not in [*known, "_target_"]:
        listed = f"{', '.join(known)}{did_you_mean(name, known)}"
        raise UserError(f"the config has no {key!r}; {parent or 'it'} has {listed}")


def _arguments(target):
    """Returns the names of a callable's arguments, None if it takes any. What a class passes on is its base's."""
    functions = [target]
    if inspect.isclass(target):
        functions = [base.__init__ for base in target.__mro__[:-1] if "__init__" in vars(base)]
    names = []
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        names += [parameter.name for parameter in parameters]
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            return [name for name in names if name not in ("self", "args", "kwargs")]
    return None
