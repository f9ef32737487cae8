import os
import pathlib

import pytest
import torch
from cankd import model_zoo
from cankd.engine import build_model, load_config, student_of
from detectron2.config import LazyConfig

from tests.tiny import write_config

CONFIGS = sorted(pathlib.Path(model_zoo.get_config_file("common/train.py")).parents[1].glob("*/*.py"))
RECIPES = [path for path in CONFIGS if path.parent.name != "common"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_config_loads_survives_saving_and_names_its_output(path, tmp_path):
    config = load_config(str(path))
    assert config.train.output_dir == f"output/{path.parent.name}/{path.stem}"
    LazyConfig.save(config, str(tmp_path / "config.yaml"))
    LazyConfig.save(load_config(write_config(config, tmp_path / "config.py")), str(tmp_path / "again.yaml"))
    assert (tmp_path / "again.yaml").read_text() == (tmp_path / "config.yaml").read_text()
    assert not list(tmp_path.glob("*.pkl"))


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn", "semantic_fpn"])
def test_teacher_comes_with_the_package_and_is_much_larger_than_the_student(detector):
    config = model_zoo.get_config(f"DigitScenes/{detector}_R10_from_R18.py")
    config.train.device = "cpu"
    model = build_model(config)
    path = pathlib.Path(model_zoo.__file__).parent / config.model.teacher.weights.removeprefix("cankd://")
    assert os.path.getsize(path) <= 8_000_000
    weights = torch.load(path, weights_only=True)["model"]
    assert all(v.dtype == torch.float16 for v in weights.values() if v.is_floating_point())
    sizes = [sum(p.numel() for p in m.parameters()) for m in (student_of(model), model.teacher.model)]
    assert sizes[1] > 3 * sizes[0]


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn", "semantic_fpn"])
def test_the_teachers_own_config_is_the_one_that_is_distilled(detector, tmp_path):
    own = model_zoo.get_config(f"DigitScenes/{detector}_R18.py").model
    distilled = model_zoo.get_config(f"DigitScenes/{detector}_R10_from_R18.py").model.teacher.model
    for name, config in (("own", own), ("distilled", distilled)):
        LazyConfig.save(config, str(tmp_path / name))
    assert (tmp_path / "own").read_text() == (tmp_path / "distilled").read_text()


def test_unknown_config_names_its_neighbours():
    with pytest.raises(ValueError, match="no config 'DigitScenes/yolo.py'; beside it there are .*retinanet_R10.py"):
        model_zoo.get_config("DigitScenes/yolo.py")
