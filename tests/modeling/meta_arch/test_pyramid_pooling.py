import torch
import torch.nn.functional as F
from cankd.modeling.meta_arch import PyramidPooling
from torch import nn


def test_pyramid_pooling_by_hand():
    """With convolutions that pass on their input, it is the map beside its poolings."""
    module = PyramidPooling(1, 1, sizes=(1, 2), norm="")
    for branch in module.branches:
        nn.init.ones_(branch[1].weight)
        nn.init.zeros_(branch[1].bias)
    assert module.bottleneck.weight.shape == (1, 3, 3, 3)
    nn.init.zeros_(module.bottleneck.bias)
    feature = torch.rand(1, 1, 4, 6)
    whole = feature.mean()
    halves = F.interpolate(F.adaptive_avg_pool2d(feature, 2), size=(4, 6), mode="bilinear")
    for index, expected in enumerate((feature, whole.expand_as(feature), halves)):
        with torch.no_grad():
            module.bottleneck.weight.zero_()
            module.bottleneck.weight[0, index, 1, 1] = 1
        torch.testing.assert_close(module(feature), expected)
