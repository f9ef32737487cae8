"""What relates a student's position to the teacher's; to add one, write a class and name it in :data:`AFFINITIES`."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from cankd.utils import UserError
from torch import Tensor, nn

__all__ = ["AFFINITIES", "Affinity", "get_affinity"]


class Affinity:
    """The matrix A of the Can module, of which none is ever formed.

    The module that a method gets is the :class:`CrossNonLocal` whose layers these are.
    """

    is_signed: ClassVar[bool] = False
    """Whether a row has entries below 0."""
    attends: ClassVar[bool] = True
    """Whether there is a row: the teacher's positions take part."""
    is_linear: ClassVar[bool] = False
    """Whether what is attended to is one linear map for all positions of an image, see :meth:`linear_map`."""

    def layers(self, channels: int, inter_channels: int) -> dict[str, nn.Module]:
        """Makes the module's trained layers by name, ``out`` and the norm aside."""
        return {name: nn.Conv2d(channels, inter_channels, 1) for name in ("theta", "phi", "g")}

    def attended(self, module: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns ``A g(y)``, ``(N, C', HW)``, for x and y, both ``(N, C, H, W)``."""
        return self.attend(*self.embed(module, student, teacher), module.pool(module.g(teacher)).flatten(2))

    def embed(self, module: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what is compared: query and key, vectors of each position, ``(N, C', HW)`` and ``(N, C', M)``."""
        return module.theta(student).flatten(2), module.pool(module.phi(teacher)).flatten(2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Returns ``A value^T``, ``(N, C', HW)``; the value is ``(N, C', M)``."""
        raise NotImplementedError

    def rows(self, query: Tensor, key: Tensor) -> Tensor:
        """Returns A for a few positions of the query, ``(N, positions, M)``."""
        raise NotImplementedError

    def linear_map(self, module: nn.Module, teacher: Tensor) -> Tensor:
        """Returns the matrix that makes ``out`` of :meth:`attended`, biases aside, of theta(x), ``(N, C, C')``."""
        raise NotImplementedError


class DotProduct(Affinity):
    """``theta(x_i)^T phi(y_j) / M``, the method's own (CanKD, Sec. 3)."""

    is_signed = True
    is_linear = True

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Groups ``query^T key value^T / M`` so that its only intermediate is C' × C'."""
        return _context(key, value) @ query

    def rows(self, query: Tensor, key: Tensor) -> Tensor:
        """See :meth:`Affinity.rows`."""
        return query.mT @ (key / key.shape[2])

    def linear_map(self, module: nn.Module, teacher: Tensor) -> Tensor:
        """See :meth:`Affinity.linear_map`."""
        return module.out.weight.flatten(1) @ _context(*_key_and_value(module, teacher))


def _context(key, value):
    return value @ (key / key.shape[2]).mT  # (N, C', C'); divided early to keep it small


def _key_and_value(module, teacher):
    """Returns what phi and g make of the teacher, pooled, ``(N, C', M)`` each, by one product.

    Channels are innermost, in the gradient too: pooling is several times faster that way.
    """
    weight = torch.cat([module.phi.weight, module.g.weight]).flatten(1)
    bias = torch.cat([module.phi.bias, module.g.bias])
    both = torch.baddbmm(bias, teacher.flatten(2).mT, weight.mT.expand(len(teacher), -1, -1))  # (N, HW, 2C')
    pooled = module.pool(both.mT.unflatten(2, teacher.shape[2:])).flatten(2)  # (N, 2C', M)
    key, value = pooled.mT.chunk(2, dim=2)
    return key.mT, value.mT


class EmbeddedGaussian(Affinity):
    """Softmax over j of ``theta(x_i)^T phi(y_j)``, unscaled (supplement, Eq. 2)."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Runs attention whose kernels form no full matrix, if the channels are equal, aligned and contiguous.

        (On CUDA they want float32 or less, too; the head gives them that.)
        """
        channels = value.shape[1]
        width = 8 * math.ceil(max(query.shape[1], channels) / 8)
        query, key, value = (
            F.pad(x, (0, 0, 0, width - x.shape[1])).mT.contiguous().unsqueeze(1) for x in (query, key, value)
        )  # (N, 1, positions, width)
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return attended.squeeze(1)[..., :channels].mT

    def rows(self, query: Tensor, key: Tensor) -> Tensor:
        """See :meth:`Affinity.rows`; a row sums to 1."""
        return (query.mT @ key).softmax(dim=2)


class Gaussian(EmbeddedGaussian):
    """Softmax over j of ``x_i^T y_j`` (supplement, Eq. 1)."""

    def layers(self, channels: int, inter_channels: int) -> dict[str, nn.Module]:
        """See :meth:`Affinity.layers`."""
        return {"g": nn.Conv2d(channels, inter_channels, 1)}

    def embed(self, module: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features themselves, ``(N, C, HW)`` and ``(N, C, M)``."""
        return student.flatten(2), module.pool(teacher).flatten(2)


class Concatenation(Affinity):
    """``ReLU(w^T [theta(x_i); phi(y_j)]) / M`` (supplement, Sec. 2): a_i + b_j of a query a and a key b."""

    def layers(self, channels: int, inter_channels: int) -> dict[str, nn.Module]:
        """See :meth:`Affinity.layers`."""
        theta, phi = (nn.Conv2d(channels, inter_channels, 1) for _ in range(2))
        concat = nn.Conv2d(2 * inter_channels, 1, 1, bias=False)
        return {"theta": theta, "phi": phi, "concat": concat, "g": nn.Conv2d(channels, inter_channels, 1)}

    def embed(self, module: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Returns each position's share of the sum, ``(N, 1, HW)`` and ``(N, 1, M)``."""
        query, key = super().embed(module, student, teacher)
        student_weight, teacher_weight = module.concat.weight.flatten()[None].chunk(2, dim=1)
        return student_weight @ query, teacher_weight @ key

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Evaluates ``sum_j ReLU(a_i + b_j) v_j / M`` in O((HW + M) log M).

        The teacher positions that are active for i are those with b_j > -a_i: a prefix once b is sorted downwards. So
        prefix sums of v and of b v give each row, exactly: ``a_i * sum v_j + sum b_j v_j``.
        """
        query, key = query.squeeze(1), key.squeeze(1)
        key, order = key.sort(dim=1, descending=True)
        value = value.gather(2, order[:, None].expand_as(value)) / key.shape[1]
        sums = F.pad(torch.stack([value, key[:, None] * value]).cumsum(3), (1, 0))  # (2, N, C', 1 + M)
        active = torch.searchsorted(-key.detach(), query.detach())  # (N, HW)
        of_value, of_product = sums.gather(3, active[:, None].expand(*sums.shape[:3], -1))
        return query[:, None] * of_value + of_product

    def rows(self, query: Tensor, key: Tensor) -> Tensor:
        """See :meth:`Affinity.rows`."""
        return (query.mT + key).relu() / key.shape[2]


class Linear(Affinity):
    """No attention: one trained map for all images in its place, ``out(theta(x))``.

    It is what CanKD with the dot product is if the teacher's image does not change the map; for ablation.
    """

    attends = False
    is_linear = True

    def layers(self, channels: int, inter_channels: int) -> dict[str, nn.Module]:
        """See :meth:`Affinity.layers`."""
        return {"theta": nn.Conv2d(channels, inter_channels, 1)}

    def attended(self, module: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
        """See :meth:`Affinity.attended`; the teacher's feature takes no part."""
        return module.theta(student).flatten(2)

    def linear_map(self, module: nn.Module, teacher: Tensor) -> Tensor:
        """See :meth:`Affinity.linear_map`."""
        return module.out.weight.flatten(1).expand(len(teacher), -1, -1)


AFFINITIES = {
    "dot_product": DotProduct(),
    "gaussian": Gaussian(),
    "embedded_gaussian": EmbeddedGaussian(),
    "concatenation": Concatenation(),
    "linear": Linear(),
}


def get_affinity(name: str) -> Affinity:
    """Returns the affinity of a name.

    Raises:
        UserError: if there is none.
    """
    if name not in AFFINITIES:
        raise UserError(f"affinity is {name!r}; it has to be one of {sorted(AFFINITIES)}")
    return AFFINITIES[name]
