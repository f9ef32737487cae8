import torch
from cankd.modeling.backbone import NormedFPN
from detectron2.modeling.backbone import BasicStem, ResNet


def pyramid():
    bottom_up = ResNet(BasicStem(), ResNet.make_default_stages(18), out_features=["res3", "res4", "res5"])
    return NormedFPN(bottom_up=bottom_up, in_features=["res3", "res4", "res5"], out_channels=64)


def test_levels():
    fpn = pyramid()
    features = fpn(torch.randn(1, 3, 64, 128))
    assert {name: shape.stride for name, shape in fpn.output_shape().items()} == {f"p{i}": 2**i for i in range(3, 8)}
    assert [x.shape[2:] for x in features.values()] == [(8, 16), (4, 8), (2, 4), (1, 2), (1, 1)]


def test_every_level_is_normed_and_keeps_its_sign():
    fpn = pyramid()
    features = fpn(torch.randn(1, 3, 256, 256))
    for name, feature in features.items():
        assert feature.flatten(1).mean().abs() < 1e-5 and feature.std() > 0.9, name
    torch.testing.assert_close(fpn.top_block.p7(features["p6"]), features["p7"])  # no activation in between
    convolutions = [module for name, module in fpn.named_children() if name.startswith("fpn_")] + [
        *fpn.top_block.children()
    ]
    assert all(conv.bias is None and conv.norm.num_groups == 32 for conv in convolutions) and len(convolutions) == 8
