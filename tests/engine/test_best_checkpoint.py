import json
import math

import pytest
import torch
from cankd import model_zoo
from cankd.checkpoint import DistillationCheckpointer
from cankd.engine import DistillationTrainer
from cankd.engine.best_checkpoint import BestCheckpoint, build_best_checkpoint
from cankd.engine.hooks import PeriodicCheckpoint
from detectron2.engine import HookBase, hooks
from torch import nn


class Counter(nn.Module):
    """Its weight is the number of steps."""

    def __init__(self):
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(1))

    def forward(self, records):
        return {"loss_minus": -self.steps.sum()}


class Crash(HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise InterruptedError


def run(folder, scores, *, max_iter=10, resume=False, crash=None, period=2, **arguments):
    """Trains, evaluates after every iteration with the scores in turn, and saves every other one."""
    model = Counter()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trainer = DistillationTrainer(model, [[{}]] * max_iter, optimizer)
    checkpointer = DistillationCheckpointer(model, str(folder), trainer=trainer)
    best = BestCheckpoint(checkpointer, **arguments)
    evaluations = []

    def evaluate():
        iteration = min(trainer.iter, trainer.max_iter - 1)
        evaluations.append(iteration)
        results = scores[iteration]
        best.observe(results if isinstance(results, dict) else {"bbox": {"AP50": 0.0, "AP": results, "AP-one": 1.0}})

    saves = PeriodicCheckpoint(checkpointer, period)
    trainer.register_hooks([saves, hooks.EvalHook(1, evaluate), *([Crash(crash)] if crash else ()), best])
    checkpointer.resume_or_load("", resume=resume)
    start = trainer.iter + 1 if resume else 0
    is_over = resume and best.resume(start)
    trainer.train(start, start if is_over else max_iter)
    return evaluations


def steps(folder, name):
    return torch.load(folder / name, weights_only=True)["model"]["steps"].item()


def test_keeps_the_best_and_continues_from_the_last(tmp_path):
    evaluations = run(tmp_path, [10.0, math.nan, 30.0, 20.0], max_iter=4)
    assert evaluations == [0, 1, 2, 3]
    assert steps(tmp_path, "model_best.pth") == 3 and steps(tmp_path, "model_final.pth") == 4
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    found = json.loads((tmp_path / "evaluations.json").read_text())
    assert found == {
        "metric": "bbox/AP",
        "best": [2, 30.0],
        "values": {"0": 10.0, "1": None, "2": 30.0, "3": 20.0},
    }


def test_a_resumed_run_knows_the_best_so_far(tmp_path):
    scores = [10.0, 50.0, 60.0, 55.0, 70.0]
    with pytest.raises(InterruptedError):
        run(tmp_path, scores[:3], crash=2)  # the last checkpoint is that of iteration 1
    assert run(tmp_path, [None, None, 40.0, 55.0], max_iter=4, resume=True) == [2, 3]
    assert steps(tmp_path, "model_best.pth") == 3  # of the interrupted part, still there
    assert run(tmp_path, [None] * 4 + [70.0], max_iter=5, resume=True) == [4]
    assert steps(tmp_path, "model_best.pth") == 5


def test_another_metric_begins_anew(tmp_path):
    run(tmp_path, [90.0], max_iter=1)
    run(tmp_path, [None, {"bbox": {"AP50": 1.0}}], max_iter=2, resume=True, metric="bbox/AP50")
    assert steps(tmp_path, "model_best.pth") == 2


def test_a_new_run_forgets_the_one_before(tmp_path):
    run(tmp_path, [90.0], max_iter=1)
    run(tmp_path, [1.0, 2.0], max_iter=2)
    assert steps(tmp_path, "model_best.pth") == 2


def test_a_new_run_that_breaks_off_before_it_evaluates_forgets_too(tmp_path):
    run(tmp_path, [90.0], max_iter=1)
    with pytest.raises(IndexError):
        run(tmp_path, [], period=1)
    run(tmp_path, [None, 2.0], max_iter=2, resume=True)
    assert json.loads((tmp_path / "evaluations.json").read_text())["best"] == [1, 2.0]
    assert steps(tmp_path, "model_best.pth") == 2


@pytest.mark.parametrize("crash", [None, 4])
def test_ends_after_evaluations_without_a_gain(tmp_path, caplog, crash):
    """The same with an interruption, after iteration 4; the last checkpoint is that of iteration 3."""
    scores = [10.0, 20.0, 20.5, 20.9, math.nan, 40.0]
    arguments = dict(patience=3, min_delta=1.0)
    with caplog.at_level("INFO", "cankd"):
        if crash:
            with pytest.raises(InterruptedError):
                run(tmp_path, scores, crash=crash, **arguments)
            assert run(tmp_path, scores, resume=True, **arguments) == [4]
        else:
            assert run(tmp_path, scores, **arguments) == [0, 1, 2, 3, 4]
    assert "Training ends at iteration 4: bbox/AP has not risen above its best value by more than 1 in 3" in caplog.text
    assert steps(tmp_path, "model_final.pth") == 5 and steps(tmp_path, "model_best.pth") == 4
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert run(tmp_path, scores, resume=True, patience=9, max_iter=6) == [5]  # more patience


def test_a_run_that_ended_early_is_not_continued(tmp_path):
    run(tmp_path, [20.0, 10.0, 10.0], patience=2)
    run(tmp_path, [20.0, 10.0, 10.0, 10.0], patience=2, resume=True)
    assert steps(tmp_path, "model_final.pth") == 3


def test_a_metric_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    with pytest.raises(
        ValueError, match="is 'box/AP', which this evaluation does not give; it gives bbox/AP50, bbox/AP"
    ):
        run(tmp_path, [10.0], metric="box/AP", period=1)
    assert run(tmp_path, [None, 10.0], metric="bbox/AP", max_iter=2, resume=True) == [1]


def test_without_boxes_masks_have_no_metric_yet_but_a_misspelt_one_is_refused(tmp_path):
    nothing = {"bbox": {"AP": math.nan}}
    run(tmp_path, [nothing, {"bbox": {"AP": 1.0}, "segm": {"AP": 2.0}}], max_iter=2, metric="segm/AP")
    assert steps(tmp_path, "model_best.pth") == 2
    with pytest.raises(ValueError, match="is 'box/AP', which this evaluation does not give"):
        run(tmp_path / "other", [nothing], max_iter=1, metric="box/AP")


@pytest.mark.parametrize(
    "results, metric",
    [
        ({"segm": {"AP": 1.0}, "bbox": {"AP": 1.0}}, "bbox/AP"),
        ({"sem_seg": {"fwIoU": 2.0, "mIoU": 1.0}}, "sem_seg/mIoU"),
        ({"classification": {"top5": 3.0, "top1": 1.0}}, "classification/top1"),
        ({"depth": {"delta1": 3.0}}, "depth/delta1"),
    ],
)
def test_the_main_metric_of_the_task(tmp_path, results, metric):
    run(tmp_path, [results], max_iter=1)
    assert json.loads((tmp_path / "evaluations.json").read_text())["metric"] == metric


@pytest.mark.parametrize(
    "train, evaluator, message",
    [
        ({"early_stopping": {"patience": 2}, "eval_period": 0}, True, "patience=2 needs evaluations during training"),
        ({"early_stopping": {"patience": 2}, "eval_period": 5}, False, "patience=2 needs evaluations during training"),
        ({"early_stopping": {"patience": 2}, "eval_period": 5, "best": None}, True, "and a metric to look at"),
        ({"best": "bbox/AP"}, False, "train.best=bbox/AP, but the config has no dataloader.evaluator"),
    ],
)
def test_what_no_evaluation_would_give_is_refused(train, evaluator, message):
    config = model_zoo.get_config("DigitScenes/retinanet_R10.py")
    config.train.update(train)
    if not evaluator:
        config.dataloader.evaluator = None
    with pytest.raises(ValueError, match=message):
        build_best_checkpoint(config, None)
