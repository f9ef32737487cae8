"""A small project of a user, with data, configs, checkpoints and an earlier run, to be damaged and tried."""

import functools
import pathlib
import shutil
from unittest import mock

import torch
from cankd.data import DigitScenes
from cankd.engine import load_config
from cankd.tools import lazyconfig_train_net
from detectron2.config import instantiate

from .attempts import attempt

__all__ = ["IMAGES", "Snapshot", "build_project", "copy_project", "train"]

IMAGES = 4
"""In each split, and in a batch: the first step sees all that is broken."""

_CONFIG = """\
import os

from cankd import model_zoo
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

_root = os.path.dirname(os.path.abspath(__file__))
for _split in ("soak_train", "soak_val"):
    if _split not in DatasetCatalog:
        register_coco_instances(_split, {{}}, f"{{_root}}/{{_split}}/annotations.json", f"{{_root}}/{{_split}}/images")

_recipe = model_zoo.get_config("DigitScenes/{recipe}.py")
dataloader, model, optimizer = _recipe.dataloader, _recipe.model, _recipe.optimizer
lr_multiplier, train = _recipe.lr_multiplier, _recipe.train
dataloader.train.dataset.names, dataloader.test.dataset.names = "soak_train", "soak_val"
dataloader.train.num_workers = dataloader.test.num_workers = 0
dataloader.train.total_batch_size = dataloader.test.batch_size = {images}
for _detector in [model.student, model.teacher.model] if "student" in model else [model]:
    for _i, _stage in enumerate(_detector.backbone.bottom_up.stages):
        _stage.in_channels, _stage.out_channels = 8 * 2 ** max(_i - 1, 0), 8 * 2**_i
    _detector.backbone.bottom_up.stem.out_channels = 8
if "student" in model:
    model.teacher.weights = f"{{_root}}/teacher.pth"
    model.head.levels = ["p3", "p4"]
train.update(device="cpu", output_dir=f"{{_root}}/run", max_iter=1, log_period=1, reference_batch_size=0)
train.checkpointer = dict(period=5, max_to_keep=3)
"""
_RECIPES = {"config.py": "retinanet_R10_from_R18", "plain.py": "retinanet_R10", "masks.py": "mask_rcnn_R10"}


def build_project(folder: pathlib.Path) -> None:
    """Writes the project.

    ``config.py`` distils from ``teacher.pth``, ``plain.py`` and ``masks.py`` train a detector alone, ``student.pth`` is
    a student's checkpoint, and ``run/`` is left from an earlier run.

    Args:
        folder: is made.
    """
    folder.mkdir(parents=True)
    for split in ("train", "val"):
        scenes = DigitScenes(split=split, num_images=IMAGES, image_size=64, digit_sizes=(12, 30))
        scenes.build(str(folder / f"soak_{split}"))
    for name, recipe in _RECIPES.items():
        (folder / name).write_text(_CONFIG.format(recipe=recipe, images=IMAGES))
    result = attempt(functools.partial(_save_checkpoints, folder))
    assert not result.error, result.error
    (folder / "run" / "results.txt").write_text("hours of work")


def _save_checkpoints(folder):
    """Is run in a process of its own, so that this one does not know the data set."""
    config = load_config(str(folder / "config.py"))
    for name, model in (("student", config.model.student), ("teacher", config.model.teacher.model)):
        weights = instantiate(model).state_dict()
        weights["head.cls_score.bias"].zero_()  # it finds something, if nothing that is there
        torch.save({"model": weights}, folder / f"{name}.pth")
    train(folder, "config.py")


def train(project: pathlib.Path, config: str, *arguments: str) -> None:
    """Does what ``tools/lazyconfig_train_net.py`` does.

    Args:
        project: folder.
        config: name of its config file.
        arguments: further ones of the script.
    """
    arguments = lazyconfig_train_net.parse_arguments(["--config-file", str(project / config), *arguments])
    # Half a second for the log.
    with mock.patch("cankd.engine.preflight.collect_env_info", return_value=""):
        lazyconfig_train_net.main.__wrapped__(arguments)


def copy_project(source: pathlib.Path, target: pathlib.Path) -> None:
    """Puts a sound copy of a project where a damaged one may be.

    Args:
        source, target: folders.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


class Snapshot:
    """What the files of a project hold, to see later whether one was damaged or lost."""

    def __init__(self, project: pathlib.Path):
        """
        Args:
            project: folder.
        """
        paths = (path for path in project.rglob("*") if path.is_file() and not path.is_symlink())
        self.contents = {path: path.read_bytes() for path in paths}
        self.run = project / "run"

    def lost_files(self) -> list[pathlib.Path]:
        """Returns the files that are absent, or do not hold what they held, or that and more at the end.

        A run that is begun anew replaces what an earlier one has left under the same names, but never by nothing.
        """
        return [path for path, held in self.contents.items() if not (_holds(path, held) or self._is_replaced(path))]

    def _is_replaced(self, path):
        names = ("config.yaml", "model_final.pth", "distillation_losses.json", "last_checkpoint")
        return path.parent == self.run and (path.name == ".lock" or path.name in names and _size(path) > 0)


def _size(path):
    return path.stat().st_size if path.is_file() else 0


def _holds(path, held):
    return path.is_file() and path.read_bytes().startswith(held)
