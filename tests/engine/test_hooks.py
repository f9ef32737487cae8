import math
import types

import pytest
import torch
from cankd.engine import DistillationSchedule, GradientClipping
from cankd.engine.hooks import EarlyLines
from detectron2.utils.events import EventStorage


@pytest.mark.parametrize(
    "warmup_iters, stop_iter, expected",
    [
        (0, None, [1, 1, 1, 1, 1, 1]),
        (4, None, [0, 0.25, 0.5, 0.75, 1, 1]),
        (2, 4, [0, 0.5, 1, 1, 0, 0]),
        (0, 0, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_schedule_sets_and_logs_the_scale(warmup_iters, stop_iter, expected):
    distiller = types.SimpleNamespace(distillation_scale=None)
    hook = DistillationSchedule(distiller, warmup_iters=warmup_iters, stop_iter=stop_iter)
    with EventStorage() as storage:
        found = []
        for iteration in range(6):
            hook.trainer = types.SimpleNamespace(iter=iteration, storage=storage)
            hook.before_step()
            found.append(distiller.distillation_scale)
    assert found == expected
    assert [value for value, _ in storage.history("distillation_scale").values()] == expected


def test_clipping_scales_all_gradients_together():
    parameters = [
        torch.nn.Parameter(torch.zeros(2)),
        torch.nn.Parameter(torch.zeros(1)),
        torch.nn.Parameter(torch.zeros(1)),
    ]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    optimizer = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=1)
    hook = GradientClipping(max_norm=1.0)
    hook.trainer = types.SimpleNamespace(optimizer=optimizer)
    hook.after_backward()
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.8]))
    assert parameters[2].grad is None


def test_clipping_by_the_largest_gradient():
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([4.0, 3.0, -1.0])
    hook = GradientClipping(max_norm=2.0, norm_type=math.inf)
    hook.trainer = types.SimpleNamespace(optimizer=torch.optim.SGD([parameter], lr=1))
    hook.after_backward()
    assert hook.trainer.gradient_norm == 4
    torch.testing.assert_close(parameter.grad, torch.tensor([2.0, 1.5, -0.5]))


@pytest.mark.parametrize("arguments", [{"warmup_iters": -1}, {"stop_iter": -5}])
def test_schedule_refuses_negative_iterations(arguments):
    with pytest.raises(ValueError, match="neither may be negative"):
        DistillationSchedule(None, **arguments)


@pytest.mark.parametrize("norm", [0, -1.0, float("nan")])
def test_clipping_refuses_a_norm_that_is_not_positive(norm):
    with pytest.raises(ValueError, match="has to be positive"):
        GradientClipping(norm)


def test_first_lines_come_early_and_never_twice(caplog):
    def run(start, stop, log_period):
        caplog.clear()
        hook, trainer = EarlyLines(stop, log_period), types.SimpleNamespace(start_iter=start, max_iter=stop)
        hook.trainer = trainer
        with caplog.at_level("INFO", "detectron2"), EventStorage(start) as storage:
            for trainer.iter in range(start, stop):
                storage.iter = trainer.iter
                hook.after_step()
        return [int(line.split("iter: ")[1].split()[0]) + 1 for line in caplog.messages]

    assert run(0, 300, log_period=100) == [1, 2, 5, 10, 20, 50]
    assert run(0, 300, log_period=10) == [1, 2, 5]
    assert run(100, 111, log_period=20) == [101, 102, 105, 110]
    assert run(0, 5, log_period=20) == [1, 2]  # the last one has its line
