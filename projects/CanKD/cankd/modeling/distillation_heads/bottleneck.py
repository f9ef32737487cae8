from collections import OrderedDict

from torch import Tensor, nn

__all__ = ["Bottleneck"]


class Bottleneck(nn.Sequential):
    """DiffKD's residual block: three convolutions, 1×1, 3×3 and 1×1, with batch norms, plus the input.

    Unlike a ResNet's, there is no ReLU behind the sum, and the convolutions have biases.
    """

    def __init__(self, *, channels: int, reduction: int):
        """
        Args:
            channels: C of input and output.
            reduction: C over the channels of the 3×3 convolution, which has one at least.
        """
        width = max(channels // reduction, 1)
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(channels, width, 1),
                norm1=nn.BatchNorm2d(width),
                relu1=nn.ReLU(inplace=True),
                conv2=nn.Conv2d(width, width, 3, padding=1),
                norm2=nn.BatchNorm2d(width),
                relu2=nn.ReLU(inplace=True),
                conv3=nn.Conv2d(width, channels, 1),
                norm3=nn.BatchNorm2d(channels),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C, H, W)``."""
        return x + super().forward(x)
