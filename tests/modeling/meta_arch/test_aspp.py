import pytest
import torch
from cankd.modeling.meta_arch import ASPP
from torch import nn


@pytest.mark.parametrize("branch, shift", [(0, 0), (1, 2), (2, 3)])
def test_by_hand(branch, shift):
    """With single taps, a branch is the map itself, or shifted by its dilation; the mean comes first."""
    module = ASPP(in_channels=1, out_channels=1, dilations=(2, 3), norm="")
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    feature = torch.rand(1, 1, 8, 9)
    with torch.no_grad():
        module.bottleneck.weight[0, 1 + branch, 1, 1] = 1
        weight = module.branches[branch].weight
        weight[0, 0, weight.shape[2] // 2, -1] = 1  # the tap to the right
    expected = torch.zeros_like(feature)
    expected[..., : 9 - shift] = feature[..., shift:]
    torch.testing.assert_close(module(feature), expected)
    with torch.no_grad():
        module.bottleneck.weight.zero_()
        module.bottleneck.weight[0, 0, 1, 1] = 2
        module.image_pooling[1].weight.fill_(1)
    torch.testing.assert_close(module(feature), 2 * feature.mean().expand_as(feature))


def test_all_convolutions_are_normed():
    module = ASPP(in_channels=3, out_channels=4, norm="BN")
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.kernel_size[0] for conv in convolutions] == [1, 1, 3, 3, 3, 3]
    assert all(isinstance(conv.norm, nn.BatchNorm2d) and conv.bias is None for conv in convolutions)
