import pytest
import torch
import torch.nn.functional as F
from cankd.modeling.meta_arch import ASPP, PyramidPooling
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


@pytest.mark.parametrize("module", [PyramidPooling(4, 4), ASPP(in_channels=4, out_channels=4)])
def test_a_single_image_is_refused_where_batch_norms_see_one_value(module):
    feature = torch.randn(1, 4, 6, 6)
    with pytest.raises(ValueError, match="its batch norm needs two images or more on each GPU"):
        module(feature)
    assert module.eval()(feature).shape == feature.shape
    assert PyramidPooling(4, 4, sizes=(2, 3))(feature).shape == feature.shape
