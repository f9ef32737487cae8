import torch
import torch.nn.functional as F
import torchvision
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import BottleneckBlock
from fvcore.nn import weight_init
from torch import Tensor, nn

__all__ = ["DeformBottleneckBlock", "DeformConv", "deform_conv2d"]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """Deformable convolution (Dai et al. 2017, Eq. 2), in float32, on the GPU by torchvision's kernel.

    On the CPU, where that kernel is an order of magnitude slower than a convolution, one bilinear sampling gathers all
    taps and one product weighs them. Values and gradients are torchvision's up to rounding. That holds at whole pixels
    too, where the gradient of an offset is the step to the next pixel to the right or below; within rounding of a whole
    pixel it may be the step before it. Pixels outside the input are 0. A batch may be empty.

    Args:
        input: ``(N, C, H, W)``.
        offset: ``(N, 2 × taps, H', W')``, for each tap of the kernel, row by row, (y, x) in pixels of the input; offset
            groups follow one another.
        weight: ``(C', C / groups, kernel height, kernel width)``.

    Returns:
        ``(N, C', H', W')``.
    """
    with torch.autocast(input.device.type, enabled=False):
        input, offset, weight = input.float(), offset.float(), weight.float()
        if input.device.type != "cpu" or offset.shape[1] != 2 * weight.shape[2] * weight.shape[3]:
            return torchvision.ops.deform_conv2d(
                input, offset, weight, stride=stride, padding=padding, dilation=dilation
            )
        return _sample_and_weigh(input, offset, weight, stride, padding, dilation)


def _sample_and_weigh(input, offset, weight, stride, padding, dilation):
    batch, channels, height, width = input.shape
    rows, columns = weight.shape[2:]
    out_height, out_width = offset.shape[2:]
    offset = offset.view(batch, rows, columns, 2, out_height, out_width)
    axes = [
        torch.arange(count, dtype=input.dtype) * step
        for count, step in (
            (rows, dilation[0]),
            (columns, dilation[1]),
            (out_height, stride[0]),
            (out_width, stride[1]),
        )
    ]
    y = offset[:, :, :, 0] + axes[0].view(-1, 1, 1, 1) + axes[2].view(-1, 1) - padding[0]
    x = offset[:, :, :, 1] + axes[1].view(-1, 1, 1) + axes[3] - padding[1]
    # Sides of powers of 2 keep the coordinates of whole pixels free of rounding: which two pixels their gradients
    # compare hangs on it. The padding is zeros, as all that lies outside.
    height, width = (1 << (int(size) - 1).bit_length() for size in (height, width))
    input = F.pad(input, (0, width - input.shape[3], 0, height - input.shape[2]))
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    grid = grid.flatten(1, 3)  # (N, taps × H', W', 2)
    taps = F.grid_sample(input, grid, align_corners=False)
    groups, inputs = channels // weight.shape[1], weight[0].numel()
    taps = taps.view(batch, groups, inputs, out_height * out_width)  # (N, G, C / G × taps, H' × W')
    output = weight.reshape(groups, -1, inputs) @ taps
    return output.view(batch, len(weight), out_height, out_width)


class DeformConv(Conv2d):
    """Deformable convolution, with the arguments of :class:`detectron2.layers.Conv2d`.

    It stands for ``detectron2.layers.DeformConv``, which is compiled code: the state-dict keys are the same, and the
    weights start as there, uniform in ±√(6 / fan_in). It has no bias, unless a norm is folded into it.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, bias=False, **kwargs)
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, input: Tensor, offset: Tensor) -> Tensor:
        """See :func:`deform_conv2d` for the shapes."""
        output = deform_conv2d(
            input, offset, self.weight, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        if self.bias is not None:
            output = output + self.bias[:, None, None]
        for layer in (self.norm, self.activation):
            output = output if layer is None else layer(output)
        return output


class DeformBottleneckBlock(BottleneckBlock):
    """Bottleneck block whose 3×3 convolution is deformable (Dai et al. 2017), for ``ResNet.make_stage``.

    It stands for Detectron2's block of the same name, which is compiled code; the state-dict keys are the same.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: str = "BN", **kwargs):
        """
        Args:
            in_channels, out_channels, norm, kwargs: as :class:`detectron2.modeling.backbone.resnet.BottleneckBlock`.
        """
        super().__init__(in_channels, out_channels, norm=norm, **kwargs)
        plain = self.conv2
        where = dict(kernel_size=3, stride=plain.stride, padding=plain.padding, dilation=plain.dilation)
        taps = 9
        self.conv2_offset = nn.Conv2d(plain.in_channels, 2 * taps, **where)
        nn.init.zeros_(self.conv2_offset.weight)
        nn.init.zeros_(self.conv2_offset.bias)
        self.conv2 = DeformConv(plain.in_channels, plain.out_channels, groups=plain.groups, norm=plain.norm, **where)
        weight_init.c2_msra_fill(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``."""
        out = F.relu_(self.conv1(x))
        out = F.relu_(self.conv2(out, self.conv2_offset(out)))
        out = self.conv3(out)
        out = out + (x if self.shortcut is None else self.shortcut(x))
        return F.relu_(out)
