import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm

__all__ = ["conv_norm_relu"]


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, norm: str = "BN", *, dilation: int = 1
) -> Conv2d:
    """Returns a convolution that keeps the size, with norm and ReLU; it has a bias if the norm is ""."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
