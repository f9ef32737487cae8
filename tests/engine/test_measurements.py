import math

import pytest
import torch
from cankd.engine.measurements import compare_gradients, measure_step, time_step

from tests.tiny import batch, distiller


def test_gradients_by_hand():
    feature = torch.tensor([3.0, 4.0], requires_grad=True)
    other = torch.tensor([1.0], requires_grad=True)
    losses = {
        "loss_cls": feature[0] * 2,  # gradient (2, 0)
        "loss_cankd_p3": feature.sum() * 3,  # gradient (3, 3)
        "loss_cankd_p4": other.sum(),  # the task knows nothing of this level
    }
    found, everywhere = compare_gradients(losses, {"p3": feature, "p4": other}, ("loss_cankd_p3", "loss_cankd_p4"))
    assert everywhere == {}
    assert found["p3"] == pytest.approx({"ratio": math.sqrt(18) / 2, "cosine": 1 / math.sqrt(2)})
    assert found["p4"] == {"ratio": math.inf, "cosine": 0}


def test_gradients_at_parameters_that_both_train():
    shared, second, head, adapter = (torch.tensor(value, requires_grad=True) for value in (1.0, 2.0, 3.0, 4.0))
    losses = {"loss_cls": 3 * shared + 4 * second + 100 * head, "loss_cankd_p3": 30 * shared - 40 * second + adapter}
    levels, found = compare_gradients(losses, {}, ["loss_cankd_p3"], [shared, second, head, adapter])
    assert levels == {} and found == pytest.approx({"ratio": 10, "cosine": (90 - 160) / (5 * 50)})
    without = {"loss_cls": shared, "loss_cankd_p3": torch.zeros(())}
    assert compare_gradients(without, {"p3": shared}, ["loss_cankd_p3"], [shared]) == ({}, {})


def test_a_step_is_timed_and_nothing_is_trained(tmp_path):
    model = distiller(tmp_path).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    trained = [*model.student.parameters(), *model.head.parameters()]
    before = [p.clone() for p in trained]
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    assert time_step(model, optimizer, batch(images=1), repeats=2) > 0
    assert len(steps) == 2 and optimizer.param_groups[0]["lr"] == 0.1
    assert all(map(torch.equal, trained, before))
    time_step(model, optimizer, batch(images=1), repeats=2, longest=1e-9)
    assert len(steps) == 3


def test_memory_of_a_step(tmp_path):
    model = distiller(tmp_path).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    measure_step(model, optimizer, batch())  # scripted losses keep other things at their first call
    gradients, parameters, memory = measure_step(model, optimizer, batch())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    steps = sum(p.requires_grad for p in model.parameters())  # AdamW counts for each parameter
    assert memory["gradients"] == 4 * trained
    assert memory["optimizer"] == 2 * 4 * trained + 4 * steps
    assert memory["weights"] > 4 * trained
    assert gradients.keys() == {"p3", "p4", "p5"} and all(row["ratio"] > 0 for row in gradients.values())
    assert parameters["ratio"] > 0 and -1 < parameters["cosine"] < 1
    larger = measure_step(model, optimizer, batch(images=4)).memory
    assert larger["activations"] == pytest.approx(2 * memory["activations"], rel=0.1)
    assert {**larger, "activations": 0} == {**memory, "activations": 0}
