"""Checks of a run that take seconds and are made before anything that takes hours."""

import argparse
import contextlib
import glob
import logging
import os
from collections.abc import Iterator

import torch
import yaml
from cankd.checkpoint import check_checkpoint
from cankd.utils import UserError, lock_directory, make_output_dir, remove_unfinished
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from .config_file import find_config_file
from .config_text import config_yaml, save_config

__all__ = [
    "check_batch_size",
    "check_checkpoints",
    "check_device",
    "check_output_dir",
    "check_parts",
    "check_processes",
    "check_resumed_method",
    "lock_output_dir",
    "prepare_run",
]

logger = logging.getLogger(__name__)

_OPTION = "train.output_dir="  # what stands before its path in a message


def prepare_run(config: DictConfig, args: argparse.Namespace) -> None:
    """Does what Detectron2's ``default_setup`` does, once it is sure that the run can be written and has its device.

    An evaluation saves its options as ``evaluation_config.yaml``, so that a run's own ``config.yaml`` stays.

    Args:
        config: the whole config.
        args: as :func:`detectron2.engine.default_argument_parser` gives them.
    """
    output_dir, rank = config.train.output_dir, comm.get_rank()
    check_output_dir(output_dir)
    check_device(config.train.device)
    for name in ("cankd", "fvcore", "detectron2"):
        setup_logger(output_dir, distributed_rank=rank, name=name)
    logger.info("Process %d of %d. Environment:\n%s", rank, comm.get_world_size(), collect_env_info())
    logger.info("Arguments: %s", args)
    if config_file := getattr(args, "config_file", ""):
        with open(find_config_file(config_file)) as f:
            logger.info("Contents of %s:\n%s", config_file, f.read())
    if comm.is_main_process() and args.eval_only:
        save_config(config, os.path.join(output_dir, "evaluation_config.yaml"))
    seed_all_rng(None if config.train.seed < 0 else config.train.seed + rank)
    torch.backends.cudnn.benchmark = not args.eval_only and config.train.get("cudnn_benchmark", False)


def check_output_dir(path: str) -> None:
    """Makes sure that a run can be written.

    Raises:
        UserError: if the directory cannot be made or written to.
    """
    make_output_dir(path, called=_OPTION)


@contextlib.contextmanager
def lock_output_dir(path: str, *, called: str = _OPTION) -> Iterator[None]:
    """Keeps other runs out of a run's directory; the main process has the lock, and all know if it does not get it.

    What a killed run has left of checkpoints that it was writing is removed.

    Args:
        path: the directory.
        called: what stands before the path in a message.

    Raises:
        UserError: if the directory cannot be made or written to, or another run has it.
    """
    make_output_dir(path, called=called)
    problem = None
    with contextlib.ExitStack() as stack:
        if comm.is_main_process():
            try:
                stack.enter_context(lock_directory(path, called=called))
            except UserError as error:
                problem = str(error)
        if problem := comm.all_gather(problem)[0]:
            raise UserError(problem)
        if comm.is_main_process():
            remove_unfinished(os.path.join(glob.escape(path), "*.pth"))
        yield


def check_resumed_method(config: DictConfig) -> None:
    """Makes sure that a run goes on with the method that it was begun with, as the ``config.yaml`` in its folder says.

    Changed options of the method are warned of: a smaller weight may be meant to rescue the run.

    Args:
        config: of the run that is resumed.

    Raises:
        UserError: if the method is another.
    """
    folder = config.train.output_dir
    try:
        with open(os.path.join(folder, "config.yaml")) as f:
            begun = yaml.load(f, _NamingLoader)["model"]["head"]
        head = yaml.load(config_yaml(config), _NamingLoader)["model"]["head"]
        before, now = _methods_of(begun), _methods_of(head)
    except (OSError, KeyError, TypeError, yaml.YAMLError):  # no distillation, or no file of this kind
        return
    if before != now:
        raise UserError(
            f"the run in {folder} was begun with {before}, and cannot go on with {now}: start anew in another "
            "train.output_dir, or go back to its method"
        )
    for key in sorted((begun.keys() | head.keys()) - {"_target_"}):
        if begun.get(key) != head.get(key):
            logger.warning("The run was begun with model.head.%s=%s: now %s.", key, begun.get(key), head.get(key))


class _NamingLoader(yaml.SafeLoader):
    """Reads the classes and functions of a config as their names."""


_NamingLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, name, node: name)


def _methods_of(head):
    """Returns the classes that compare features. Of what a config imports, the module's name differs at each load."""
    return " + ".join(part["_target_"].rpartition(".")[2] for part in head.get("heads", [head]))


def check_device(device: str) -> None:
    """Makes sure that the device exists.

    Raises:
        UserError: if the device is unknown, or there is no CUDA device.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError(f"train.device={device} is not a device that PyTorch knows: use cuda or cpu") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"train.device={device}, but PyTorch finds no CUDA device: add train.device=cpu")


def check_processes(processes_per_machine: int) -> None:
    """Makes sure, before processes are started, that each gets a GPU of its own, unless there is none at all.

    Raises:
        UserError: if there are GPUs, but fewer than processes, or the number is negative.
    """
    if processes_per_machine < 0:
        raise UserError(f"--num-gpus {processes_per_machine}; it has to be at least 0")
    if torch.cuda.is_available() and torch.cuda.device_count() < processes_per_machine:
        raise UserError(f"--num-gpus {processes_per_machine}, but this machine has {torch.cuda.device_count()}")


def check_checkpoints(config: DictConfig) -> None:
    """Makes sure that the checkpoints are there which a distillation starts from.

    Raises:
        UserError: if one is not.
    """
    for path in (config.train.init_checkpoint, config.model.teacher.weights):
        if path:
            check_checkpoint(path)


def check_parts(config: DictConfig) -> None:
    """Makes sure that a config has what training needs.

    Raises:
        UserError: if a part is absent.
    """
    given, loaders = ({key for key in node if node[key] is not None} for node in (config, config.dataloader))
    if absent := {"optimizer", "lr_multiplier"} - given or {"train"} - loaders:
        raise UserError(f"the config has no {' and no '.join(sorted(absent))}, which training needs")


def check_batch_size(loader: DictConfig, processes: int, accumulate: int = 1) -> None:
    """Makes sure that every process gets as many images, in every part of a batch.

    Args:
        loader: ``dataloader.train`` of a config; nothing is checked if it has no ``total_batch_size``.
        processes: number of all.
        accumulate: parts of a batch, ``train.accumulate``.

    Raises:
        UserError: if the total batch size is no multiple of the number of processes, and of parts.
    """
    total = loader.get("total_batch_size")
    if total is not None and (total < 1 or total % processes):
        raise UserError(
            f"dataloader.train.total_batch_size is {total}; it has to be a multiple of the number of processes, "
            f"{processes}"
        )
    if accumulate < 1 or (total or 0) % (processes * accumulate):
        raise UserError(
            f"train.accumulate={accumulate} cannot divide dataloader.train.total_batch_size={total} on {processes} "
            "processes: take a number of parts, at least 1, that divides the images of a process"
        )
