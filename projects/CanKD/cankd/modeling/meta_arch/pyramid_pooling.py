from collections.abc import Sequence

import torch
import torch.nn.functional as F
from cankd.layers import conv_norm_relu
from torch import Tensor, nn

from .pooled_norms import check_pooled_norms

__all__ = ["PyramidPooling"]


class PyramidPooling(nn.Module):
    """Pyramid pooling of PSPNet (Zhao et al. 2017, Fig. 3): the map, pooled to several sizes and put together."""

    def __init__(self, in_channels: int, out_channels: int, *, sizes: Sequence[int] = (1, 2, 3, 6), norm: str = "BN"):
        """
        Args:
            in_channels, out_channels: of the feature and of the result; each pooled map has the latter, too.
            sizes: of the pooled maps.
            norm: of the convolutions. One that looks at the batch needs two images or more where a size is 1.
        """
        super().__init__()
        self._pools_to_one = 1 in sizes
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), conv_norm_relu(in_channels, out_channels, 1, norm))
            for size in sizes
        )
        self.bottleneck = conv_norm_relu(in_channels + len(sizes) * out_channels, out_channels, 3, norm)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        if self._pools_to_one:
            check_pooled_norms(self.branches, len(feature))
        size = feature.shape[2:]
        pooled = [
            F.interpolate(branch(feature), size=size, mode="bilinear", align_corners=False) for branch in self.branches
        ]
        return self.bottleneck(torch.cat((feature, *pooled), dim=1))
