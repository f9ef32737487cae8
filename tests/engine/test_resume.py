"""What a killed run has left, and what --resume makes of it."""

import json
import os
from unittest.mock import Mock

import cankd.engine.training
import pytest
import torch
from cankd.checkpoint import DistillationCheckpointer
from cankd.engine import train, use_method
from cankd.utils import UserError, lock_directory
from detectron2.engine import HookBase

CONFIG = "DigitScenes/retinanet_R10.py"


class Kill(BaseException):
    """Stands for SIGKILL: nobody catches it."""


class KillBefore(HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise Kill


class FailWithin(HookBase):
    """Stands for a broken image, or too little memory, within a step."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_backward(self):
        if self.trainer.iter == self.iteration:
            raise RuntimeError("out of memory")


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


@pytest.mark.parametrize("step", ["save", "tag_last_checkpoint"])
def test_the_final_file_comes_when_it_alone_was_missing(quick_config, tmp_path, monkeypatch, step):
    """The kill fell after the last periodic checkpoint, at the end, or before the final file was named as the last."""
    original = getattr(DistillationCheckpointer, step)

    def kill_at_the_final_one(self, name, **kwargs):
        if name.startswith("model_final"):
            raise Kill
        original(self, name, **kwargs)

    config = quick_config(CONFIG, max_iter=2, checkpointer={"period": 2, "max_to_keep": 5})
    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(DistillationCheckpointer, step, kill_at_the_final_one)
        train(config)
    run = tmp_path / "run"
    assert (run / "last_checkpoint").read_text() == "model_0000001.pth"
    assert "bbox" in train(config, resume=True)
    assert checkpoints(run) == ["model_0000001.pth", "model_final.pth"]
    assert (run / "last_checkpoint").read_text() == "model_final.pth"
    config.train.max_iter = 3  # goes on where the final file was, and not one further
    train(config, resume=True)
    lines = map(json.loads, (run / "metrics.json").read_text().splitlines())
    assert [line["iteration"] for line in lines if "total_loss" in line] == [0, 1, 2]


def test_the_final_file_of_a_run_that_ended_early_comes_when_it_alone_was_missing(quick_config, tmp_path, monkeypatch):
    """Early stopping was decided, and the kill fell before it was saved."""
    config = quick_config(CONFIG, max_iter=9, eval_period=1, log_period=9, checkpointer={"period": 1, "max_to_keep": 5})
    config.optimizer.lr = 0.0  # so that nothing is found, at any iteration
    config.train.early_stopping.patience = 1
    original = DistillationCheckpointer.save

    def kill_at_the_final_one(self, name, **kwargs):
        if name == "model_final":
            raise Kill
        original(self, name, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(DistillationCheckpointer, "save", kill_at_the_final_one)
        train(config)
    assert "model_final.pth" not in checkpoints(tmp_path / "run")
    train(config, resume=True)
    assert torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["iteration"] == 0
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_final.pth"


def test_an_older_final_file_is_replaced(quick_config, tmp_path):
    config = quick_config(CONFIG, max_iter=1, checkpointer={"period": 1, "max_to_keep": 5})
    train(config)
    run = tmp_path / "run"
    old = (run / "model_final.pth").read_bytes()
    config.train.max_iter = 4
    with pytest.raises(Kill):
        train(config, resume=True, extra_hooks=(KillBefore(3),))
    config.train.max_iter = 3
    train(config, resume=True)
    assert (run / "model_final.pth").read_bytes() != old


def test_checkpoints_before_an_interruption_count(quick_config, tmp_path):
    config = quick_config(CONFIG, max_iter=6, checkpointer={"period": 1, "max_to_keep": 2})
    run = tmp_path / "run"
    with pytest.raises(Kill):
        train(config, extra_hooks=(KillBefore(3),))
    (run / "model_0000000.pth").write_bytes(b"one too many, as an interruption leaves it")
    (run / "model_9999999.pth").write_bytes(b"of another run, which was longer")
    assert checkpoints(run)[1:3] == ["model_0000001.pth", "model_0000002.pth"]
    train(config, resume=True)
    assert checkpoints(run) == ["model_0000004.pth", "model_0000005.pth", "model_9999999.pth", "model_final.pth"]


def test_a_directory_in_use_is_refused_before_anything_is_written(quick_config, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    with lock_directory(str(run)):
        monkeypatch.setattr("cankd.utils.directory_lock._held", {})  # another process does not know of it
        with pytest.raises(UserError, match=f"train.output_dir={run} is in use by another run, process {os.getpid()}"):
            train(quick_config(CONFIG))
        monkeypatch.undo()
    assert os.listdir(run) == [".lock"]


def test_what_a_kill_left_of_a_checkpoint_is_removed(quick_config, tmp_path):
    left = tmp_path / "run" / f"model_0000001.pth.{'0a' * 8}.unfinished"
    left.parent.mkdir()
    left.write_bytes(b"half")
    train(quick_config(CONFIG, max_iter=1))
    assert not left.exists()


@pytest.mark.parametrize(
    "evaluate, error",
    [
        (Mock(side_effect=UserError("class 57 was predicted")), UserError),
        (lambda *_: {}["AP"], KeyError),  # a fault of the user's own evaluator
        (lambda *_: {"bbox": {"AP": 1.0}}, UserError),  # train.best is not among it
    ],
)
def test_an_evaluation_that_fails_loses_no_step(quick_config, tmp_path, monkeypatch, evaluate, error):
    config = quick_config(CONFIG, max_iter=4, eval_period=2)
    config.train.best = "bbox/AP50"
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(cankd.engine.training, "test", evaluate)
        train(config)
    folder = tmp_path / "run"
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"
    train(config, resume=True)
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"


def test_a_step_that_fails_loses_none_of_those_before(quick_config, tmp_path, caplog):
    config = quick_config(CONFIG, max_iter=4, checkpointer={"period": 100, "max_to_keep": 5})
    run = tmp_path / "run"
    with pytest.raises(RuntimeError):
        train(config, extra_hooks=(FailWithin(0),))
    assert checkpoints(run) == []
    with pytest.raises(RuntimeError):
        train(config, extra_hooks=(FailWithin(2),))
    assert checkpoints(run) == ["model_0000001.pth"]
    (run / "metrics.json").unlink()
    train(config, resume=True)
    assert "This resume is not exact" not in caplog.text
    lines = map(json.loads, (run / "metrics.json").read_text().splitlines())
    assert [line["iteration"] for line in lines if "total_loss" in line] == [2, 3]


def test_an_error_is_told_though_its_step_cannot_be_saved(quick_config, monkeypatch, caplog):
    def fill_disk(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(DistillationCheckpointer, "save", fill_disk)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(quick_config(CONFIG, max_iter=4), extra_hooks=(FailWithin(2),))
    assert "steps since the last checkpoint are not saved" in caplog.text and "no space left" in caplog.text


def test_another_method_is_refused_and_another_weight_is_said(quick_config, caplog):
    def load(name, **options):
        return use_method(quick_config("DigitScenes/retinanet_R10_from_R18.py", **options), name)

    train(load("pkd", max_iter=1))
    with pytest.raises(UserError, match="was begun with PKDHead, and cannot go on with CWDHead: start anew"):
        train(load("cwd", max_iter=2), resume=True)
    with pytest.raises(UserError, match="cannot go on with PKDHead . KDHead"):
        train(load("pkd+kd", max_iter=2), resume=True)
    config = load("pkd", max_iter=2)
    config.model.head.weight = 5.0
    train(config, resume=True)
    assert "begun with model.head.weight=10.0: now 5.0" in caplog.text
    assert "replaced" not in caplog.text
    train(load("cwd", max_iter=1))
    assert "holds another run's checkpoints, which are replaced" in caplog.text


def test_a_new_run_that_is_killed_before_it_saves_is_not_resumed_as_the_one_before(quick_config, tmp_path):
    config = quick_config(CONFIG, max_iter=3)
    train(config)
    pointer = tmp_path / "run" / "last_checkpoint"
    with pytest.raises(Kill):
        train(config, extra_hooks=(KillBefore(0),))
    assert pointer.read_text() == "model_final.pth"  # nothing has been trained, so nothing is forgotten
    with pytest.raises(Kill):
        train(config, extra_hooks=(KillBefore(1),))
    (tmp_path / "run" / "metrics.json").unlink()
    train(config, resume=True)
    lines = map(json.loads, (tmp_path / "run" / "metrics.json").read_text().splitlines())
    assert [line["iteration"] for line in lines if "total_loss" in line] == [0, 1, 2]
