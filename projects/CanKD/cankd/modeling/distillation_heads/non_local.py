import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import get_norm
from torch import Tensor, nn

__all__ = ["AFFINITIES", "CrossNonLocal"]


class CrossNonLocal(nn.Module):
    """The Can module: every student position attends to all teacher positions (CanKD, Sec. 3; supplement, Sec. 2–5).

    With student x and teacher y, ``z_i = BN(out(sum_j A_ij g(y_j))) + x_i``. The affinity A is one of

    - "dot_product": ``theta(x_i)^T phi(y_j) / M``, the method's own;
    - "gaussian": softmax over j of ``x_i^T y_j`` (supplement, Eq. 1);
    - "embedded_gaussian": softmax over j of ``theta(x_i)^T phi(y_j)`` (supplement, Eq. 2);
    - "concatenation": ``ReLU(w^T [theta(x_i); phi(y_j)]) / M``,

    where j runs over the M teacher positions left after max pooling. None holds the positions × positions matrix.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        inter_channels: int | None = None,
        affinity: str = "dot_product",
        pool_size: int = 2,
        residual: bool = True,
        norm: str = "BN",
    ):
        """
        Args:
            in_channels: channels C of student and teacher.
            inter_channels: channels C' of theta, phi and g; C / 2 if not given.
            affinity: see above.
            pool_size: side of the max pooling of the teacher's positions; 1 pools nothing.
            residual: whether to add x (supplement, Sec. 5).
            norm: normalisation after ``out``, a name that :func:`detectron2.layers.get_norm` knows. Its weight and bias
                start at zero, so z = x at first; with "" those of ``out`` do.

        Raises:
            ValueError: if the affinity or the norm is unknown, the norm is frozen, or a number is not positive.
        """
        super().__init__()
        if affinity not in AFFINITIES:
            raise ValueError(f"affinity is {affinity!r}; it has to be one of {sorted(AFFINITIES)}")
        if inter_channels is None:
            inter_channels = max(in_channels // 2, 1)
        if min(in_channels, inter_channels, pool_size) < 1:
            raise ValueError(
                f"in_channels={in_channels}, inter_channels={inter_channels} and pool_size={pool_size} have to be "
                "at least 1"
            )
        self.affinity = affinity
        self.pool_size = pool_size
        self.residual = residual

        if affinity != "gaussian":
            self.theta = nn.Conv2d(in_channels, inter_channels, 1)
            self.phi = nn.Conv2d(in_channels, inter_channels, 1)
        if affinity == "concatenation":
            self.concat = nn.Conv2d(2 * inter_channels, 1, 1, bias=False)
        self.g = nn.Conv2d(in_channels, inter_channels, 1)
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
        value = self._pool(self.g(teacher)).flatten(2)  # (N, C', M)
        attended = AFFINITIES[self.affinity](*self._embed(student, teacher), value)  # (N, C', HW)
        fused = self.norm(self.out(attended.unflatten(2, student.shape[2:])))
        return fused + student if self.residual else fused

    @property
    def is_affine(self) -> bool:
        """Whether z is an affine function of x, of one matrix for all positions of an image."""
        return self.affinity == "dot_product" and type(self.norm) in (nn.BatchNorm2d, nn.Identity)

    def fused_covariances(
        self, teacher: Tensor, mean: Tensor, student_covariance: Tensor, cross_covariance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes what instance normalisation and MSE need of z, and not z itself, where the module :attr:`is_affine`.

        Before norm and residual, z is ``u = A x`` and a constant: ``out``, the attention and ``theta`` make A.

        Args:
            teacher: y, ``(N, C, H', W')``.
            mean, student_covariance, cross_covariance: of x, and of x with y, see :func:`covariances`.

        Returns:
            The variance of z over positions and its covariance with y, each ``(N, C)``.
        """
        context = _context(self._pool(self.phi(teacher)).flatten(2), self._pool(self.g(teacher)).flatten(2))
        attended = self.out.weight.flatten(1) @ context  # (N, C, C')
        matrix = attended @ self.theta.weight.flatten(1)  # (N, C, C)
        product = matrix @ student_covariance  # of u with x
        variance = (product * matrix).sum(2).clamp(min=0)  # rounding may take it below
        covariance = (cross_covariance.mT * matrix).sum(2)
        scale = 1.0
        if isinstance(self.norm, nn.BatchNorm2d):
            constant = attended @ self.theta.bias + self.out.bias  # (N, C)
            mean = (matrix @ mean[..., None]).squeeze(2) + constant
            scale = _batch_norm_scale(self.norm, mean, variance, positions=teacher.shape[2] * teacher.shape[3])
        variance, covariance = scale * scale * variance, scale * covariance
        if self.residual:
            variance = variance + 2 * scale * _diagonal(product) + _diagonal(student_covariance)
            covariance = covariance + _diagonal(cross_covariance)
        # Instance normalisation is blind to constants, but DistributedDataParallel wants each parameter to take part.
        ignored = 0.0 * sum(p.sum() for p in (self.theta.bias, self.out.bias, *self.norm.parameters()))
        return variance + ignored, covariance

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
        query, key = self._embed(student, teacher)  # (N, [C',] HW), (N, [C',] M)
        query = query[..., [row * student.shape[3] + column for row, column in positions]]
        if self.affinity == "concatenation":
            rows = (query[:, :, None] + key[:, None, :]).relu() / key.shape[-1]
        elif self.affinity == "dot_product":
            rows = query.mT @ (key / key.shape[-1])
        else:
            rows = (query.mT @ key).softmax(dim=2)
        return rows.unflatten(2, self._pool(teacher).shape[2:])

    def _embed(self, student, teacher):
        """Returns what the affinity compares: vectors of each position, or their share of a sum (concatenation)."""
        if self.affinity == "gaussian":
            return student.flatten(2), self._pool(teacher).flatten(2)  # (N, C, HW), (N, C, M)
        query, key = self.theta(student).flatten(2), self._pool(self.phi(teacher)).flatten(2)
        if self.affinity == "concatenation":
            student_weight, teacher_weight = self.concat.weight.flatten().chunk(2)
            return student_weight @ query, teacher_weight @ key  # (N, HW), (N, M)
        return query, key

    def _pool(self, x):
        return F.max_pool2d(x, self.pool_size) if self.pool_size > 1 else x


def _build_norm(name, channels):
    if not name:
        return nn.Identity()
    try:
        norm = get_norm(name, channels)
    except KeyError as error:
        raise ValueError(f"norm is {name!r}, which Detectron2 does not know: use BN, SyncBN, GN or ''") from error
    if not isinstance(norm.weight, nn.Parameter):
        raise ValueError(f"norm is {name!r}, whose weight stays at the zero from which it has to grow: use BN")
    return norm


def _attend_by_dot_product(query, key, value):
    """Groups ``query^T key value^T / M`` so that its only intermediate is C' × C'; divides early to keep it small."""
    return _context(key, value) @ query


def _context(key, value):
    return value @ (key / key.shape[2]).mT  # (N, C', C')


def _diagonal(matrix):
    return matrix.diagonal(dim1=1, dim2=2)


def _batch_norm_scale(norm, mean, variance, positions):
    """Returns by what batch normalisation multiplies each channel, and updates its running statistics.

    Args:
        norm: the module.
        mean, variance: of its input over the positions of each image, ``(N, C)``.
        positions: their number.
    """
    if not norm.training:
        return norm.weight * (norm.running_var + norm.eps).rsqrt()
    batch_mean = mean.mean(0)
    batch_variance = (variance + (mean - batch_mean).square()).mean(0)
    with torch.no_grad():
        count = len(mean) * positions
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(batch_mean, norm.momentum)
        norm.running_var.lerp_(batch_variance * count / (count - 1), norm.momentum)
    return norm.weight * (batch_variance + norm.eps).rsqrt()


def _attend_by_softmax(query, key, value):
    """Unscaled softmax attention. Its kernels that form no full matrix want equal, aligned, contiguous channels.

    (On CUDA they want float32 or less, too; the head gives them that.)
    """
    channels = value.shape[1]
    width = 8 * math.ceil(max(query.shape[1], channels) / 8)
    query, key, value = (
        F.pad(x, (0, 0, 0, width - x.shape[1])).mT.contiguous().unsqueeze(1) for x in (query, key, value)
    )  # (N, 1, positions, width)
    attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
    return attended.squeeze(1)[..., :channels].mT


def _attend_by_concatenation(query, key, value):
    """Evaluates ``sum_j ReLU(a_i + b_j) v_j / M`` for scalars a (query) and b (key) in O((HW + M) log M).

    The teacher positions that are active for i are those with b_j > -a_i: a prefix once b is sorted downwards. So
    prefix sums of v and of b v give each row, exactly: ``a_i * sum v_j + sum b_j v_j``.
    """
    key, order = key.sort(dim=1, descending=True)
    value = value.gather(2, order[:, None].expand_as(value)) / key.shape[1]
    sums = F.pad(torch.stack([value, key[:, None] * value]).cumsum(3), (1, 0))  # (2, N, C', 1 + M)
    active = torch.searchsorted(-key.detach(), query.detach())  # (N, HW)
    of_value, of_product = sums.gather(3, active[:, None].expand(*sums.shape[:3], -1))
    return query[:, None] * of_value + of_product


AFFINITIES = {
    "dot_product": _attend_by_dot_product,
    "gaussian": _attend_by_softmax,
    "embedded_gaussian": _attend_by_softmax,
    "concatenation": _attend_by_concatenation,
}
