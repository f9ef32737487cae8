from collections.abc import Sequence

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.fcos import FCOSHead
from torch import Tensor, nn

__all__ = ["ScaledFCOSHead"]


class ScaledFCOSHead(FCOSHead):
    """FCOS head that multiplies the boxes of each level by a learned number (Tian et al. 2019, Sec. 3.2).

    Detectron2's ``FCOSHead``, whose distances are in strides, leaves the numbers out.
    """

    def __init__(self, *, input_shape: Sequence[ShapeSpec], conv_dims: Sequence[int], **kwargs):
        """
        Args:
            input_shape: of the feature levels.
            conv_dims, kwargs: as :class:`detectron2.modeling.meta_arch.fcos.FCOSHead`.
        """
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, **kwargs)
        self.scales = nn.Parameter(torch.ones(len(input_shape)))

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """
        Args:
            features: a tensor ``(N, C, H, W)`` for each level.

        Returns:
            For each level: class scores before the sigmoid, ``(N, num_classes, H, W)``; distances to the box's sides in
            strides, ``(N, 4, H, W)``; centerness before the sigmoid, ``(N, 1, H, W)``.
        """
        scores, distances, centerness = super().forward(features)
        return scores, [scale * distance for scale, distance in zip(self.scales, distances)], centerness
