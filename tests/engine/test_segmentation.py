"""A segmentor goes through everything that a detector goes through."""

import json
import pathlib
import subprocess
import sys

import cv2
import pytest
import torch
from cankd.analysis import check_distillation
from cankd.engine import evaluate, train
from cankd.reporting import draw_predictions
from detectron2.config import instantiate
from omegaconf import OmegaConf

from tests.tiny import save_weights, write_config

PAIRS = ("semantic_fpn", "pspnet")

PLAIN_DETECTRON2 = """
import sys
sys.modules["cankd"] = None  # importing it fails from here on
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate

config_file, checkpoint = sys.argv[1:]
model = instantiate(LazyConfig.load(config_file).model)
checkpointer = DetectionCheckpointer(model)
incompatible = []
checkpointer._log_incompatible_keys = incompatible.append
checkpointer.load(checkpoint)
assert not any(incompatible[0]), incompatible
print("loaded whole")
"""


@pytest.fixture
def load(quick_config, tmp_path):
    """Returns a function that gives a small distillation with a teacher of random weights."""

    def load(name, **train):
        config = quick_config(f"DigitScenes/{name}.py", **train)
        teacher = instantiate(config.model.teacher.model)
        config.model.teacher.weights = save_weights(teacher, tmp_path / "teacher.pth")
        return config

    return load


def metrics(config):
    lines = (pathlib.Path(config.train.output_dir) / "metrics.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("pair", PAIRS)
def test_trains_resumes_and_is_evaluated(load, pair):
    config = load(f"{pair}_R10_from_R18", max_iter=2, checkpointer={"period": 1, "max_to_keep": 1})
    train(config)
    config.train.max_iter = 3
    results = train(config, resume=True)
    losses = [line for line in metrics(config) if "total_loss" in line]
    assert [line["iteration"] for line in losses] == [0, 1, 2]
    assert losses[-1]["loss_sem_seg"] > 0 and any(key.startswith("loss_cankd_") for key in losses[-1])
    config.train.init_checkpoint = str(pathlib.Path(config.train.output_dir) / "model_final.pth")
    assert evaluate(config)["sem_seg"]["mIoU"] == pytest.approx(results["sem_seg"]["mIoU"])
    assert {"mIoU", "fwIoU", "pACC", "IoU-background", "IoU-9"} < results["sem_seg"].keys()


def test_inherits_neck_and_head(load):
    config = load("semantic_fpn_R10_from_R18_inherit", max_iter=1)
    config.optimizer.lr = 0.0
    train(config)
    found = torch.load(pathlib.Path(config.train.output_dir) / "model_final.pth", weights_only=True)["model"]
    teacher = torch.load(config.model.teacher.weights, weights_only=True)["model"]
    assert torch.equal(found["sem_seg_head.predictor.weight"], teacher["sem_seg_head.predictor.weight"])
    assert torch.equal(found["backbone.fpn_output4.weight"], teacher["backbone.fpn_output4.weight"])


def test_result_is_a_plain_detectron2_checkpoint(load, tmp_path):
    config = load("semantic_fpn_R10_from_R18", max_iter=1)
    train(config)
    write_config(OmegaConf.create({"model": config.model.student}), tmp_path / "config.py")
    checkpoint = pathlib.Path(config.train.output_dir) / "model_final.pth"
    command = [sys.executable, "-c", PLAIN_DETECTRON2, str(tmp_path / "config.py"), str(checkpoint)]
    assert "loaded whole" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("pair", PAIRS)
def test_is_checked(load, pair):
    found = check_distillation(load(f"{pair}_R10_from_R18"), num_images=0, report=lambda line: None)
    assert found["problems"] == [] and all(row["ratio"] > 0 for row in found["gradients"].values())


def test_masks_are_checked_before_training(load):
    config = load("semantic_fpn_R10_from_R18")
    config.model.student.sem_seg_head.num_classes = 5
    with pytest.raises(ValueError, match=r"semantic/.*png has the labels \[.*\]; the model knows 0 to 4, and 255"):
        train(config)


def test_is_drawn_with_image_and_ground_truth(load, tmp_path):
    draw_predictions(load("semantic_fpn_R10_from_R18"), str(tmp_path / "a.png"), images=2)
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 3 * 450  # image, teacher, ground truth
