"""The Cityscapes recipes, on a small tree of fake Cityscapes, through the real loaders and the real evaluation."""

import json
import pathlib

import numpy as np
import pytest
from cankd import model_zoo
from cankd.analysis import check_distillation
from cankd.engine import evaluate, train
from detectron2.config import instantiate

FOLDER = pathlib.Path(model_zoo.get_config_file("Cityscapes-SemanticSegmentation/pspnet_R18.py")).parent
PAIRS = sorted(path.stem for path in FOLDER.glob("*_from_*.py"))
HEIGHT, WIDTH = 128, 256


def recipe(name):
    return model_zoo.get_config(f"Cityscapes-SemanticSegmentation/{name}.py")


@pytest.mark.parametrize("name", PAIRS)
def test_recipe_has_the_published_values(name):
    config = recipe(name)
    assert config.dataloader.train.total_batch_size == config.train.reference_batch_size == 8
    assert config.train.max_iter == 80000 and config.dataloader.train.mapper.augmentations[1].crop_size == [512, 1024]
    sgd = config.optimizer
    assert (sgd.lr, sgd.momentum, sgd.weight_decay, sgd.params.weight_decay_norm) == (0.01, 0.9, 5e-4, 5e-4)
    assert sgd.lr * instantiate(config.lr_multiplier)(1.0) == pytest.approx(1e-4)
    assert config.model.head.get("weight", 5.0) == (10.0 if name == "deeplab_v3_R18_from_pspnet_R101" else 5.0)
    student, teacher = config.model.student, config.model.teacher
    for model, order in ((student, config.model.input_format), (teacher.model, teacher.input_format)):
        assert (model.pixel_mean[0] > model.pixel_mean[2]) == (order == "RGB")
    assert config.dataloader.test.mapper.image_format == config.dataloader.train.mapper.image_format
    assert config.dataloader.train.mapper.image_format == config.model.input_format
    if "semantic_fpn" not in name:
        assert student.backbone.output_stride == 8
        assert student.sem_seg_head.auxiliary.loss_weight == 0.4
        assert student.sem_seg_head.auxiliary.in_feature == "res4"
        assert "SyncBN" in (student.backbone.get("norm"), student.backbone.get("stages", {}).get("norm"))


@pytest.mark.parametrize(
    "name, millions",
    [
        ("deeplab_v3_MobileNetV2", 18.38),
        ("deeplab_v3_R101", 84.74),
        ("deeplab_v3_R18", 13.84),
        ("pspnet_R101", 65.60),
        ("pspnet_R18", 12.64),
    ],
)
def test_model_has_the_published_size(name, millions):
    config = recipe(name).model
    config.sem_seg_head.auxiliary = None
    count = sum(parameter.numel() for parameter in instantiate(config).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.006)


def small_recipe(name, tmp_path):
    """Returns a recipe for a step on fake images, its teacher of random weights."""
    config = recipe(name)
    data = config.dataloader
    data.train.num_workers = data.test.num_workers = 0
    data.train.total_batch_size = 2
    resize, crop = data.train.mapper.augmentations[:2]
    resize.min_scale, resize.target_height, resize.target_width = 1.0, HEIGHT, WIDTH
    crop.crop_size = [HEIGHT, HEIGHT]
    config.train.update(device="cpu", output_dir=str(tmp_path / "run"), max_iter=1, init_checkpoint="")
    config.model.teacher.weights = None
    return config


@pytest.mark.parametrize("name", PAIRS)
def test_pair_trains_a_step_and_is_evaluated(name, tmp_path, cityscapes):
    config = small_recipe(name, tmp_path)
    results = train(config)["sem_seg"]
    assert 0 <= results["IoU"] <= 100
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").read_text().splitlines()][0]
    assert np.isfinite(losses["total_loss"]) and losses["distillation_scale"] == 1
    config.train.init_checkpoint = str(tmp_path / "run" / "model_final.pth")
    assert evaluate(config)["sem_seg"] == pytest.approx(results, nan_ok=True)


@pytest.mark.parametrize("name", ["pspnet_R18_from_R101", "semantic_fpn_R18_from_R101"])
def test_pair_is_checked(name, tmp_path, cityscapes):
    problems = check_distillation(small_recipe(name, tmp_path), num_images=1, report=lambda line: None)["problems"]
    assert len(problems) == 1 and "the teacher's sem_seg mIoU on 1 images is " in problems[0]
