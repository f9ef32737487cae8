import pytest
import torch
from cankd.solver import ExponentialMovingAverage
from torch import nn


def test_averages_weights_and_statistics_and_copies_counters():
    model = nn.BatchNorm1d(1)
    averaged = ExponentialMovingAverage(model, decay=0.3)
    for step in range(4):
        model.weight.data.fill_(step)
        model.running_mean.fill_(10 * step)
        model.num_batches_tracked.fill_(step)
        averaged.update_parameters(model)
    # The first is the average; then 2/11, 3/12 and, as 4/13 is more, 0.3 of what was there stay.
    expected = 0.3 * (0.25 * (9 / 11) + 0.75 * 2) + 0.7 * 3
    assert averaged.module.weight.item() == pytest.approx(expected)
    assert averaged.module.running_mean.item() == pytest.approx(10 * expected)
    assert averaged.module.num_batches_tracked == 3
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert torch.equal(model.weight.data, torch.tensor([3.0]))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_refuses_a_decay_that_is_none(decay):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        ExponentialMovingAverage(nn.Linear(1, 1), decay=decay)
