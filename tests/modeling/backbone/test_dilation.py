import pytest
import torch
from cankd.modeling.backbone import DilatedResNet, MobileNetV2
from detectron2.modeling.backbone import BasicStem, ResNet
from torchvision.models import mobilenet_v2

LEVELS = ["res2", "res3", "res4", "res5"]


def resnet(cls, depth, **arguments):
    stages = ResNet.make_default_stages(depth, norm="BN")
    return cls(BasicStem(norm="BN"), stages, out_features=LEVELS, **arguments).eval()


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_resnet_has_the_output_stride_and_says_so(depth, output_stride):
    backbone = resnet(DilatedResNet, depth, output_stride=output_stride)
    features = backbone(torch.randn(1, 3, 64, 96))
    for level, stride in zip(LEVELS, (4, 8, 16, 32)):
        stride = min(stride, output_stride)
        assert features[level].shape[2:] == (64 // stride, 96 // stride)
        assert backbone.output_shape()[level].stride == stride
    assert backbone.size_divisibility == output_stride


@pytest.mark.parametrize("depth", [18, 50])
def test_dilation_sees_what_strides_saw(depth):
    """Every other position of the dilated stage is what the strided stage computes, but for its contracted first
    block and the border."""
    plain, dilated = resnet(ResNet, depth), resnet(DilatedResNet, depth, output_stride=16)
    dilated.load_state_dict(plain.state_dict())
    for module in dilated.res5[0].modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size != (1, 1):
            module.dilation = module.padding = (2, 2) if module is not first_spatial(dilated.res5[0]) else (1, 1)
    image = torch.randn(1, 3, 320, 320)
    expected, found = plain(image)["res5"], dilated(image)["res5"]
    torch.testing.assert_close(found[:, :, ::2, ::2], expected, rtol=1e-3, atol=1e-3)


def first_spatial(block):
    return next(m for m in block.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size != (1, 1))


def test_dilations_are_contracted():
    backbone = resnet(DilatedResNet, 50)
    assert [block.conv2.dilation[0] for block in backbone.res4] == [1, 2, 2, 2, 2, 2]
    assert [block.conv2.dilation[0] for block in backbone.res5] == [2, 4, 4]
    assert all(block.conv2.stride == block.conv1.stride == (1, 1) for block in backbone.res5)
    backbone = resnet(DilatedResNet, 18)
    assert [(block.conv1.dilation[0], block.conv2.dilation[0]) for block in backbone.res5] == [(2, 2), (4, 4)]


def test_mobilenet_is_torchvisions():
    backbone, whole = MobileNetV2(out_features=["res3", "res5"], output_stride=32), mobilenet_v2()
    backbone.load_state_dict({k: v for k, v in whole.state_dict().items() if k in backbone.state_dict()})
    image = torch.randn(1, 3, 64, 96)
    features = backbone.eval()(image)
    torch.testing.assert_close(features["res5"], whole.eval().features[:18](image))
    assert features.keys() == {"res3", "res5"}


def test_mobilenet_has_no_idle_layers():
    assert len(MobileNetV2(out_features=["res4"]).features) == 14
    with pytest.raises(ValueError, match="out_features is \\['res6'\\]: name some of res2, res3, res4, res5"):
        MobileNetV2(out_features=["res6"])


def test_mobilenet_has_the_output_stride_and_says_so():
    backbone = MobileNetV2(out_features=LEVELS, output_stride=8)
    features = backbone(torch.randn(2, 3, 64, 96))
    for level, channels, stride in zip(LEVELS, (24, 32, 96, 320), (4, 8, 8, 8)):
        assert features[level].shape[1:] == (channels, 64 // stride, 96 // stride)
        assert (backbone.output_shape()[level].channels, backbone.output_shape()[level].stride) == (channels, stride)
    dilations = {i: layer.conv[1][0].dilation[0] for i, layer in enumerate(backbone.features[2:], 2)}
    first_blocks = {7: 2, 11: 2, 14: 4, 17: 4}  # of the layers of 64, 96, 160 and 320 channels
    assert dilations == {i: first_blocks.get(i, 1) for i in range(2, 18)}


@pytest.mark.parametrize("output_stride", [0, 2, 12, 64])
def test_other_output_strides_are_refused(output_stride):
    for build in (lambda **options: resnet(DilatedResNet, 18, **options), MobileNetV2):
        with pytest.raises(ValueError, match=f"output_stride is {output_stride}; it has to be 8, 16 or 32"):
            build(output_stride=output_stride)
