import pytest
import torch
from cankd.checkpoint import load_all_weights
from cankd.utils import UserError
from torch import nn


@pytest.mark.parametrize(
    "spoil, fault",
    [
        (lambda weight: weight.index_fill(0, torch.tensor([2]), torch.nan), "has values that are NaN or infinite"),
        (lambda weight: weight.index_fill(0, torch.tensor([2]), torch.inf), "has values that are NaN or infinite"),
        (lambda weight: weight.round().to(torch.int8), "is of torch.int8"),
    ],
)
def test_weights_that_cannot_be_computed_with_are_refused(tmp_path, spoil, fault):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weights = {**model.state_dict(), "1.weight": spoil(torch.ones(3)), "1.bias": spoil(torch.ones(3))}
    path = tmp_path / "spoilt.pth"
    torch.save({"model": weights}, path)
    with pytest.raises(UserError, match=f"spoilt.pth cannot be used: its weight 1.weight {fault}"):
        load_all_weights(model, str(path), "student")


def test_integers_and_faults_that_the_model_does_not_compute_with_are_no_fault(tmp_path):
    model = nn.BatchNorm1d(3)
    weights = {**model.state_dict(), "of another model": torch.tensor([torch.nan])}
    weights["weight"] = weights["weight"].half()
    torch.save({"model": weights}, tmp_path / "sound.pth")
    assert len(load_all_weights(model, str(tmp_path / "sound.pth"), "student").loaded) == 5
