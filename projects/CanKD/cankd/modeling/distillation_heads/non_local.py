from collections.abc import Sequence

import torch
import torch.nn.functional as F
from cankd.utils import UserError
from detectron2.layers import get_norm
from torch import Tensor, nn

from .affinities import get_affinity
from .covariances import covariances

__all__ = ["CrossNonLocal"]


POOLINGS = {"max": F.max_pool2d, "average": F.avg_pool2d}


class CrossNonLocal(nn.Module):
    """The Can module: every student position attends to all teacher positions (CanKD, Sec. 3; supplement, Sec. 2–5).

    With student x and teacher y, ``z_i = BN(out(sum_j A_ij g(y_j))) + x_i``, where j runs over the M teacher positions
    left after pooling. The affinity A is one of :data:`~cankd.modeling.AFFINITIES`. None holds the positions ×
    positions matrix.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        inter_channels: int | None = None,
        affinity: str = "dot_product",
        pool_size: int = 2,
        pooling: str = "max",
        residual: bool = True,
        norm: str = "BN",
    ):
        """
        Args:
            in_channels: channels C of student and teacher.
            inter_channels: channels C' of theta, phi and g; C / 2 if not given.
            affinity: a key of :data:`~cankd.modeling.AFFINITIES`.
            pool_size: side of the pooling of the teacher's positions; 1 pools nothing.
            pooling: "max", as published, or "average".
            residual: whether to add x (supplement, Sec. 5).
            norm: normalisation after ``out``, a name that :func:`detectron2.layers.get_norm` knows. Its weight and bias
                start at zero, so z = x at first; with "" those of ``out`` do.

        Raises:
            UserError: if the affinity, the pooling or the norm is unknown, the norm is frozen, or a number is not
                positive.
        """
        super().__init__()
        if inter_channels is None:
            inter_channels = max(in_channels // 2, 1)
        if min(in_channels, inter_channels, pool_size) < 1:
            raise UserError(
                f"in_channels={in_channels}, inter_channels={inter_channels} and pool_size={pool_size} have to be "
                "at least 1"
            )
        if pooling not in POOLINGS:
            raise UserError(f"pooling is {pooling!r}; it has to be one of {', '.join(POOLINGS)}")
        self.affinity = affinity
        self._relation = get_affinity(affinity)
        self.pool_size = pool_size
        self._pooling = POOLINGS[pooling]
        self.residual = residual
        for name, layer in self._relation.layers(in_channels, inter_channels).items():
            self.add_module(name, layer)
        self.out = nn.Conv2d(inter_channels, in_channels, 1)
        self.norm = _build_norm(norm, in_channels)

        starts_at_zero = self.norm if norm else self.out
        nn.init.zeros_(starts_at_zero.weight)
        nn.init.zeros_(starts_at_zero.bias)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: x, ``(N, C, H, W)``.
            teacher: y, ``(N, C, H', W')``.

        Returns:
            The fused student feature z, ``(N, C, H, W)``.
        """
        attended = self._relation.attended(self, student, teacher)  # (N, C', HW)
        fused = self.norm(self.out(attended.unflatten(2, student.shape[2:])))
        return fused + student if self.residual else fused

    @property
    def is_affine(self) -> bool:
        """Whether z is an affine function of x, of one matrix for all positions of an image."""
        return self._relation.is_linear and type(self.norm) in (nn.BatchNorm2d, nn.Identity)

    def fused_covariances(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes what instance normalisation and MSE need of z and y, and not z itself, where z :attr:`is_affine`.

        Before norm and residual, z is ``u = A theta(x)`` and a constant. ``out`` and the attention make A.

        Args:
            student: x, ``(N, C, H, W)``.
            teacher: y, ``(N, C, H, W)``.

        Returns:
            The variance of z over positions, its covariance with y, and the variance of y, each ``(N, C)``, of
            float64.
        """
        matrix = self._relation.linear_map(self, teacher)  # (N, C, C')
        unit = _power_of_two(matrix)  # u grows with the square of y: in this unit its variance does not overflow
        matrix = matrix / unit
        theta = self.theta.weight.flatten(1)
        mean, uu, ux, uy, xx, xy, yy = covariances(student, teacher, theta, matrix)
        scale = unit
        if isinstance(self.norm, nn.BatchNorm2d):
            attended = F.linear(mean, theta, self.theta.bias)  # (N, C')
            mean = (matrix @ attended[..., None]).squeeze(2) + self.out.bias / unit
            scale = _batch_norm_scale(self.norm, mean, uu, unit, positions=teacher[0, 0].numel())
        variance, covariance = scale * scale * uu, scale * uy
        if self.residual:
            variance = variance + 2 * scale * ux + xx
            covariance = covariance + xy
        # Instance normalisation is blind to constants, but DistributedDataParallel wants each parameter to take part.
        ignored = 0.0 * sum(p.sum() for p in (self.theta.bias, self.out.bias, *self.norm.parameters()))
        return variance + ignored, covariance, yy

    @torch.no_grad()
    def attention_rows(self, student: Tensor, teacher: Tensor, positions: Sequence[tuple[int, int]]) -> Tensor:
        """Computes what some student positions draw from each teacher position, and nothing for the others.

        Args:
            student: x, ``(N, C, H, W)``.
            teacher: y, ``(N, C, H', W')``.
            positions: rows and columns of the student's map.

        Returns:
            The rows of the affinity A, ``(N, positions, H' / pool_size, W' / pool_size)``. Those of the Gaussians sum
            to 1; those of the dot product have signs.
        """
        query, key = self._relation.embed(self, student, teacher)  # (N, C', HW), (N, C', M)
        query = query[..., [row * student.shape[3] + column for row, column in positions]]
        return self._relation.rows(query, key).unflatten(2, self.pool(teacher).shape[2:])

    def pool(self, x: Tensor) -> Tensor:
        """Pools the teacher's positions, ``(N, C, H, W)``."""
        return self._pooling(x, self.pool_size) if self.pool_size > 1 else x


def _build_norm(name, channels):
    if not name:
        return nn.Identity()
    try:
        norm = get_norm(name, channels)
    except KeyError as error:
        raise UserError(f"norm is {name!r}, which Detectron2 does not know: use BN, SyncBN, GN or ''") from error
    if not isinstance(norm.weight, nn.Parameter):
        raise UserError(f"norm is {name!r}, whose weight stays at the zero from which it has to grow: use BN")
    return norm


def _power_of_two(x):
    """Returns the smallest power of two, 1 or more, above all magnitudes. It multiplies without rounding."""
    exponent = torch.frexp(x.detach().abs().amax()).exponent
    return torch.ldexp(x.new_ones(()), exponent.clamp(min=0))


def _batch_norm_scale(norm, mean, variance, unit, positions):
    """Returns by what batch normalisation multiplies each channel, and updates its running statistics.

    Args:
        norm: the module.
        mean, variance: of its input over the positions of each image, ``(N, C)``, in the unit and its square.
        unit: a scalar.
        positions: their number.
    """
    if not norm.training:
        return norm.weight * (norm.running_var + norm.eps).rsqrt() * unit
    batch_mean = mean.mean(0)
    batch_variance = (variance + (mean - batch_mean).square()).mean(0)
    with torch.no_grad():
        count = len(mean) * positions
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(batch_mean * unit, norm.momentum)
        variance = batch_variance * unit * unit * count / (count - 1)
        norm.running_var.lerp_(variance.to(norm.running_var), norm.momentum)
    return norm.weight * (batch_variance + norm.eps / unit / unit).rsqrt()
