import torch
from cankd.utils import UserError
from torch import Tensor, nn

from .scale_gradient import scale_gradient

__all__ = ["TRANSFORMS", "PointsToBoxes"]

TRANSFORMS = ("moment", "minmax", "partial_minmax")


class PointsToBoxes(nn.Module):
    """The pseudo box of a set of points (Yang et al. 2019, Sec. 3.2).

    ``minmax`` is the smallest box that holds all points, ``partial_minmax`` the one that holds the first four.
    ``moment`` is centred on the mean, and its half width and half height are the standard deviations times a trained
    factor each.
    """

    def __init__(self, transform: str = "moment", gradient_mul: float = 0.01):
        """
        Args:
            transform: one of ``TRANSFORMS``.
            gradient_mul: what the gradient of the trained factors is multiplied by.

        Raises:
            UserError: if there is no such transform.
        """
        super().__init__()
        if transform not in TRANSFORMS:
            raise UserError(f"box transform {transform!r} is unknown: choose one of {', '.join(TRANSFORMS)}")
        self.transform = transform
        self.gradient_mul = gradient_mul
        if transform == "moment":
            self.log_scale = nn.Parameter(torch.zeros(2))

    def forward(self, points: Tensor) -> Tensor:
        """Maps points ``(..., P, 2)``, each (x, y), to boxes ``(..., 4)``, each (x0, y0, x1, y1)."""
        if self.transform == "moment":
            center = points.mean(dim=-2)
            half_size = points.std(dim=-2) * scale_gradient(self.log_scale, self.gradient_mul).exp()
            return torch.cat((center - half_size, center + half_size), dim=-1)
        if self.transform == "partial_minmax":
            points = points[..., :4, :]
        return torch.cat((points.amin(dim=-2), points.amax(dim=-2)), dim=-1)
