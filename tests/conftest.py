import importlib.util
import logging
import pathlib

import pytest
from cankd import model_zoo
from cankd.data import DigitPatches, DigitScenes, register_digit_patches, register_digit_scenes
from detectron2.data import DatasetCatalog
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import _LOG_COUNTER, setup_logger

from tests.tiny_tasks import forget, register_cityscapes_again, register_tasks, write_cityscapes

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def seed():
    seed_all_rng(0)


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Closes what a test's runs log to: its output stream does not outlive it."""
    yield
    for name in ("detectron2", "fvcore", "cankd"):
        logging.getLogger(name).handlers.clear()
    setup_logger.cache_clear()
    _LOG_COUNTER.clear()  # of messages that are logged once


@pytest.fixture(scope="session")
def tiny_scenes(tmp_path_factory):
    """Registers two small splits of Digit Scenes and returns their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(tmp_path_factory.mktemp("datasets")))
        names = "tiny_scenes_train", "tiny_scenes_val"
        register_digit_scenes(names[0], DigitScenes(split="train", num_images=24))
        register_digit_scenes(names[1], DigitScenes(split="val", num_images=6))
        for name in names:
            DatasetCatalog.get(name)
    yield names
    for name in names:
        DatasetCatalog.remove(name)


@pytest.fixture(scope="session")
def tiny_tasks(tiny_scenes, tmp_path_factory):
    """Registers the small splits of Digit Scenes in the formats of other tasks; returns their names by task."""
    names = register_tasks(tiny_scenes, tmp_path_factory.mktemp("tasks"))
    yield names
    for name in sum(names.values(), []):
        forget(name)


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory):
    """Registers Detectron2's Cityscapes splits on a tree of two images each, of 128×256."""
    reason = "Cityscapes is evaluated by cityscapesscripts"
    labels = pytest.importorskip("cityscapesscripts.helpers.labels", reason=reason)
    root = tmp_path_factory.mktemp("datasets")
    write_cityscapes(root, labels, height=128, width=256)
    register_cityscapes_again(root)
    yield root
    register_cityscapes_again("datasets")


@pytest.fixture(scope="session")
def tiny_patches(tmp_path_factory):
    """Registers two small splits of Digit Patches and returns their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(tmp_path_factory.mktemp("datasets")))
        names = "tiny_patches_train", "tiny_patches_val"
        register_digit_patches(names[0], DigitPatches(split="train", num_images=20))
        register_digit_patches(names[1], DigitPatches(split="val", num_images=10))
    yield names
    for name in names:
        DatasetCatalog.remove(name)


@pytest.fixture
def quick_config(tiny_scenes, tiny_patches, tmp_path):
    """Returns a function that gives a config of ours, made small: a few iterations on tiny splits, on the CPU."""

    def load(name, **train):
        config = model_zoo.get_config(name)
        names = tiny_patches if name.startswith("DigitPatches") else tiny_scenes
        config.dataloader.train.dataset.names, config.dataloader.test.dataset.names = names
        config.dataloader.train.num_workers = config.dataloader.test.num_workers = 0
        config.dataloader.train.total_batch_size = 2
        config.train.update(device="cpu", output_dir=str(tmp_path / "run"), max_iter=4, log_period=1)
        config.train.reference_batch_size = 0
        config.train.update(train)
        return config

    return load


@pytest.fixture(scope="session")
def load_tool():
    """Returns a function that imports a script of ``tools/`` or ``benchmarks/`` by its path."""

    def load(path):
        spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
