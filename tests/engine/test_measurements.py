import math

import pytest
import torch
from cankd.engine.measurements import compare_gradients, measure_step

from tests.tiny import batch, distiller


def test_gradients_by_hand():
    feature = torch.tensor([3.0, 4.0], requires_grad=True)
    other = torch.tensor([1.0], requires_grad=True)
    losses = {
        "loss_cls": feature[0] * 2,  # gradient (2, 0)
        "loss_cankd_p3": feature.sum() * 3,  # gradient (3, 3)
        "loss_cankd_p4": other.sum(),  # the task knows nothing of this level
    }
    found = compare_gradients(losses, {"p3": feature, "p4": other}, ("loss_cankd_p3", "loss_cankd_p4"))
    assert found["p3"] == pytest.approx({"ratio": math.sqrt(18) / 2, "cosine": 1 / math.sqrt(2)})
    assert found["p4"] == {"ratio": math.inf, "cosine": 0}


def test_memory_of_a_step(tmp_path):
    model = distiller(tmp_path).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    measure_step(model, optimizer, batch())  # scripted losses keep other things at their first call
    gradients, memory = measure_step(model, optimizer, batch())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    steps = sum(p.requires_grad for p in model.parameters())  # AdamW counts for each parameter
    assert memory["gradients"] == 4 * trained
    assert memory["optimizer"] == 2 * 4 * trained + 4 * steps
    assert memory["weights"] > 4 * trained
    assert gradients.keys() == {"p3", "p4", "p5"} and all(row["ratio"] > 0 for row in gradients.values())
    larger = measure_step(model, optimizer, batch(images=4))[1]
    assert larger["activations"] == pytest.approx(2 * memory["activations"], rel=0.1)
    assert {**larger, "activations": 0} == {**memory, "activations": 0}
