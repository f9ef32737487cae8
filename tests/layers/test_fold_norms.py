import copy

import torch
from cankd.layers.deform_conv import DeformBottleneckBlock
from cankd.layers.fold_norms import fold_norms
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from tests.tiny import detector


def test_folded_norms_change_no_feature():
    backbone = detector("retinanet").backbone.eval()
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:  # away from the identity
        for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    folded = copy.deepcopy(backbone)
    assert fold_norms(folded) == len(norms) > 0
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    image = torch.randn(1, 3, 64, 64, generator=generator)
    for name, feature in backbone(image).items():
        torch.testing.assert_close(folded(image)[name], feature, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_norms_of_deformable_convolutions_are_folded_too():
    block = DeformBottleneckBlock(8, 16, bottleneck_channels=8, norm="BN").eval()
    for norm in (module for module in block.modules() if isinstance(module, nn.BatchNorm2d)):
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            value.copy_(torch.rand(value.shape) + 0.5)
    block.conv2_offset.weight.normal_(std=0.1)
    x = torch.randn(2, 8, 9, 9)
    expected = block(x)
    assert fold_norms(block) == 4
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_a_norm_may_be_kept():
    layer = Conv2d(3, 4, 1, bias=False, norm=nn.BatchNorm2d(4)).eval()
    assert fold_norms(layer, keep=[layer.norm]) == 0 and layer.norm is not None


def test_frozen_norms_are_folded_and_norms_of_one_image_stay():
    layers = nn.Sequential(
        Conv2d(3, 4, 1, bias=False, norm=FrozenBatchNorm2d(4)),
        Conv2d(4, 4, 1, norm=nn.GroupNorm(2, 4)),
        nn.Conv2d(4, 4, 1),
    ).eval()
    layers[0].norm.running_mean += 2.0
    x = torch.randn(1, 3, 5, 5)
    expected = layers(x)
    assert fold_norms(layers) == 1
    assert layers[0].norm is None and isinstance(layers[1].norm, nn.GroupNorm)
    torch.testing.assert_close(layers(x), expected)
