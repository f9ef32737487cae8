import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from cankd.layers import DeformConv, conv_norm_relu
from cankd.utils import UserError
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn

from .scale_gradient import scale_gradient

__all__ = ["RepPointsHead"]


class RepPointsHead(nn.Module):
    """Classification and two-stage point regression of RepPoints (Yang et al. 2019, Fig. 2 and Sec. 4).

    The first stage moves a set of points from each position of the feature map; deformable convolutions at those points
    then classify the position and move the points once more. Weights start as published: normal with a standard
    deviation of 0.01, biases 0, and those of the deformable convolutions as :class:`cankd.layers.DeformConv` has them.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[ShapeSpec],
        num_classes: int,
        conv_dims: Sequence[int] = (256, 256, 256),
        point_conv_dim: int = 256,
        num_points: int = 9,
        norm: str = "GN",
        gradient_mul: float = 0.1,
        prior_prob: float = 0.01,
        start_on_grid: bool = False,
    ):
        """
        Args:
            input_shape: of the feature levels; one head serves all.
            num_classes: without the background.
            conv_dims: channels of the 3×3 convolutions of either tower.
            point_conv_dim: channels of the layers that see the points.
            num_points: points of a set, the taps of the deformable convolutions: 9, 25, or another square of an odd
                number.
            norm: of the towers.
            gradient_mul: what the gradient that reaches the first stage through the deformable convolutions is
                multiplied by.
            prior_prob: foreground probability at the start.
            start_on_grid: whether the first stage's points start on the regular grid, where a deformable convolution is
                a plain one, rather than all at the position itself, as published. Short trainings end higher so.

        Raises:
            UserError: if ``num_points`` is no such number.
        """
        super().__init__()
        side = math.isqrt(num_points)
        if side**2 != num_points or side % 2 == 0 or side == 1:
            raise UserError(f"num_points is {num_points}: it must be the square of an odd number, such as 9 or 25")
        self.gradient_mul = gradient_mul
        in_channels = input_shape[0].channels
        self.cls_subnet = _make_tower(in_channels, conv_dims, norm)
        self.points_subnet = _make_tower(in_channels, conv_dims, norm)
        channels = [in_channels, *conv_dims][-1]
        deform = dict(kernel_size=side, padding=side // 2, activation=F.relu)
        self.points_init = nn.Sequential(
            Conv2d(channels, point_conv_dim, kernel_size=3, padding=1, activation=F.relu),
            Conv2d(point_conv_dim, 2 * num_points, kernel_size=1),
        )
        self.cls_conv = DeformConv(channels, point_conv_dim, **deform)
        self.cls_score = Conv2d(point_conv_dim, num_classes, kernel_size=1)
        self.points_refine_conv = DeformConv(channels, point_conv_dim, **deform)
        self.points_refine = Conv2d(point_conv_dim, 2 * num_points, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not isinstance(module, DeformConv):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))
        taps = torch.arange(side) - side // 2.0
        grid = torch.stack(torch.meshgrid(taps, taps, indexing="ij"), dim=-1)
        self.register_buffer("grid", grid.view(-1, 1, 1), persistent=False)  # (2 × points, 1, 1), (y, x) of each tap
        if start_on_grid:
            with torch.no_grad():
                self.points_init[-1].bias.copy_(self.grid.flatten())

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """
        Args:
            features: a tensor ``(N, C, H, W)`` for each level.

        Returns:
            For each level: class scores before the sigmoid, ``(N, num_classes, H, W)``; the first and the second
            stage's points, ``(N, 2 × num_points, H, W)``, each (y, x) in strides from the position.
        """
        levels = [self._forward_level(feature) for feature in features]
        scores, points_init, points_refine = (list(outputs) for outputs in zip(*levels))
        return scores, points_init, points_refine

    def _forward_level(self, feature):
        cls_feature, points_feature = self.cls_subnet(feature), self.points_subnet(feature)
        init = self.points_init(points_feature).float()
        # A deformable convolution counts from its regular taps.
        offset = scale_gradient(init, self.gradient_mul) - self.grid
        scores = self.cls_score(self.cls_conv(cls_feature, offset))
        moves = self.points_refine(self.points_refine_conv(points_feature, offset))
        return scores, init, init.detach() + moves.float()


def _make_tower(in_channels, conv_dims, norm):
    layers = []
    for channels in conv_dims:
        layers.append(conv_norm_relu(in_channels, channels, 3, norm))
        in_channels = channels
    return nn.Sequential(*layers)
