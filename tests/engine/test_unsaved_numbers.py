import numpy as np
import torch
from cankd.engine.unsaved_numbers import UnsavedNumbers
from torch import nn


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.momentum = 0.9
        self.is_ready = False
        self.register_buffer("mean", torch.zeros(2), persistent=False)
        self.register_buffer("scale", torch.ones(2), persistent=False)

    def step(self):
        self.is_ready = True
        self.mean += 1
        self.normalizer = np.float64(2.5)
        self.last = torch.tensor(3.0)


def test_what_training_changes_is_restored_and_the_configs_numbers_stay(tmp_path):
    model = nn.Sequential(Counting(), Counting())
    numbers = UnsavedNumbers(model)
    assert numbers.state_dict() == {}
    model[1].step()
    model.eval()
    state = numbers.state_dict()
    assert state.keys() == {("1", name) for name in ("is_ready", "mean", "normalizer", "last")}
    torch.save(state, tmp_path / "state.pth")

    other = nn.Sequential(Counting(), Counting())
    other[1].momentum = 0.5
    restored = UnsavedNumbers(other)
    restored.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert (other[1].is_ready, other[1].normalizer, other[1].last, other[1].momentum) == (True, 2.5, 3.0, 0.5)
    assert "mean" in dict(other[1].named_buffers()) and other[1].mean.tolist() == [1, 1]
    assert not other[0].is_ready and not hasattr(other[0], "normalizer")
    assert restored.state_dict().keys() == state.keys()


def test_of_tensors_only_single_numbers_are_kept():
    model = Counting()
    numbers = UnsavedNumbers(model)
    model.features = torch.ones(1000)
    model.names = ["a"]
    assert numbers.state_dict() == {}
