import pytest
import torch
import torchvision
from cankd.layers.deform_conv import DeformBottleneckBlock, DeformConv, deform_conv2d
from detectron2.modeling.backbone.resnet import BottleneckBlock

GEOMETRIES = [
    dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1)),
    dict(stride=(2, 1), padding=(1, 2), dilation=(2, 1)),
]


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_torchvision(geometry, groups):
    x = torch.randn(2, 8, 9, 7, requires_grad=True)
    weight = torch.randn(12, 8 // groups, 3, 3, requires_grad=True)
    size = torch.nn.functional.conv2d(x, weight, groups=groups, **geometry).shape[2:]
    offset = (3 * torch.randn(2, 18, *size)).requires_grad_()  # far enough to leave the map
    outputs = [f(x, offset, weight, **geometry) for f in (deform_conv2d, torchvision.ops.deform_conv2d)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad(output.square().sum(), (x, offset, weight)) for output in outputs]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(9, 7), (25, 42), (100, 167)])
def test_gradients_at_whole_pixels_are_torchvisions(size):
    x, weight = torch.randn(1, 4, *size, requires_grad=True), torch.randn(3, 4, 3, 3, requires_grad=True)
    offset = torch.randint(-3, 4, (1, 18, *size)).float().requires_grad_()
    outputs = [f(x, offset, weight, padding=(1, 1)) for f in (deform_conv2d, torchvision.ops.deform_conv2d)]
    gradients = [torch.autograd.grad(output.sum(), (x, offset, weight)) for output in outputs]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("offset_groups", [1, 2])
def test_empty_batch(offset_groups):
    x, weight = torch.randn(0, 4, 5, 7, requires_grad=True), torch.randn(6, 4, 3, 3, requires_grad=True)
    output = deform_conv2d(x, torch.zeros(0, 18 * offset_groups, 5, 7), weight, padding=(1, 1))
    assert output.shape == (0, 6, 5, 7)
    output.sum().backward()
    assert x.grad.shape == x.shape and not weight.grad.any()


def test_several_offset_groups():
    x, weight, offset = (torch.randn(1, 4, 5, 5), torch.randn(2, 4, 3, 3), torch.randn(1, 36, 5, 5))
    ours = deform_conv2d(x, offset, weight, padding=(1, 1))
    torch.testing.assert_close(ours, torchvision.ops.deform_conv2d(x, offset, weight, padding=(1, 1)))


def test_a_whole_pixel_to_the_right():
    conv = DeformConv(1, 1, kernel_size=1)
    torch.nn.init.ones_(conv.weight)
    offset = torch.zeros(1, 2, 1, 3)
    offset[:, 1] = 1  # (y, x)
    assert conv(torch.tensor([[[[1.0, 2.0, 3.0]]]]), offset).flatten().tolist() == [2, 3, 0]


def test_memory_formats():
    x, offset, weight = torch.randn(1, 8, 6, 6), torch.randn(1, 18, 6, 6), torch.randn(4, 8, 3, 3)
    how = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1))
    last = [value.to(memory_format=torch.channels_last) for value in (x, offset, weight)]
    torch.testing.assert_close(deform_conv2d(*last, **how), deform_conv2d(x, offset, weight, **how))


def test_stays_in_float32_under_autocast():
    conv = DeformConv(4, 4, kernel_size=3, padding=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(torch.randn(1, 4, 5, 5).bfloat16(), torch.zeros(1, 18, 5, 5)).dtype == torch.float32


@pytest.mark.parametrize("stride, groups", [(1, 1), (2, 4)])
def test_block_starts_as_the_plain_one(stride, groups):
    arguments = dict(bottleneck_channels=8, stride=stride, num_groups=groups, norm="BN")
    plain, deformable = BottleneckBlock(16, 32, **arguments), DeformBottleneckBlock(16, 32, **arguments)
    missing = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert set(missing.missing_keys) == {"conv2_offset.weight", "conv2_offset.bias"} and not missing.unexpected_keys
    x = torch.randn(2, 16, 9, 9)
    torch.testing.assert_close(plain.eval()(x), deformable.eval()(x), rtol=1e-4, atol=1e-5)
    deformable(x).sum().backward()
    assert deformable.conv2_offset.weight.grad.abs().sum() > 0
