from collections.abc import Sequence

import torch
from cankd.layers import conv_norm_relu
from torch import Tensor, nn

from .pooled_norms import check_pooled_norms

__all__ = ["ASPP"]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling of DeepLabV3 (Chen et al. 2017, Sec. 3.3): the map at several dilations at once.

    Detectron2's module of this name fuses its branches by a 1×1 convolution and pools without a norm. The published
    segmentation recipes have a 3×3 convolution and a norm.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, dilations: Sequence[int] = (12, 24, 36), norm: str = "BN"
    ):
        """
        Args:
            in_channels, out_channels: of the feature and of the result; each branch has the latter, too.
            dilations: of the 3×3 convolutions, which stand beside a 1×1 convolution and the mean over the map.
            norm: of all convolutions. One that looks at the batch needs two images or more.
        """
        super().__init__()
        self.image_pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm_relu(in_channels, out_channels, 1, norm))
        self.branches = nn.ModuleList([conv_norm_relu(in_channels, out_channels, 1, norm)])
        self.branches.extend(conv_norm_relu(in_channels, out_channels, 3, norm, dilation=d) for d in dilations)
        self.bottleneck = conv_norm_relu((1 + len(self.branches)) * out_channels, out_channels, 3, norm)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        check_pooled_norms(self.image_pooling, len(feature))
        mean = self.image_pooling(feature).expand(-1, -1, *feature.shape[2:])
        return self.bottleneck(torch.cat((mean, *(branch(feature) for branch in self.branches)), dim=1))
