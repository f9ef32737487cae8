"""CanKD's loss without its fused feature: instance norm and MSE see two features by their variances and covariance."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.linalg import vecdot

__all__ = ["COVARIANCES", "Moments", "covariances", "instance_normalized_mse"]

BLOCK = 2**17  # values of an image that a CPU works on at a time, so that they stay in its cache


class Moments(NamedTuple):
    """Moments over the positions of each image, all ``(N, C)``: of x, y and the mapped feature u.

    Attributes:
        mean: of x.
        uu, xx, yy: variances.
        ux, uy, xy: covariances, channel by channel.
    """

    mean: Tensor
    uu: Tensor
    ux: Tensor
    uy: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor


def covariances(student: Tensor, teacher: Tensor, inner: Tensor, outer: Tensor) -> Moments:
    """Computes moments of two features and of ``u = outer inner x``, a map of the student's by two matrices.

    All are centred first: products of large means would drown a small variance.

    Args:
        student: x, ``(N, C, H, W)``.
        teacher: y, ``(N, C, H, W)``, a constant: it gets no gradient.
        inner: ``(C', C)``.
        outer: ``(N, C, C')``, one for each image.
    """
    return Moments(*_Covariances.apply(student.flatten(2), teacher.flatten(2), inner, outer))


class _Covariances(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, inner, outer):
        positions = x.shape[2]
        ctx.block = max(BLOCK // x.shape[1], 1) if x.device.type == "cpu" else positions
        x_means, y_means = _means(x, ctx.block), _means(y, ctx.block)
        inner_mapped, mapped, sums = [], [], 0
        for a, b in zip(_centered(x, x_means, ctx.block), _centered(y, y_means, ctx.block)):
            t = _for_each(inner, x) @ a
            u = outer @ t
            pairs = [(u, u), (u, a), (u, b), (a, a), (a, b), (b, b)]
            sums = sums + torch.stack([vecdot(left, right) for left, right in pairs])
            inner_mapped.append(t)
            mapped.append(u)
        ctx.save_for_backward(x, y, inner, outer, *x_means, *y_means, *inner_mapped, *mapped)
        moments = (sums / positions).unbind()
        ctx.mark_non_differentiable(moments[-1])
        return x_means[0].squeeze(2), *moments

    @staticmethod
    @once_differentiable
    def backward(ctx, mean, *gradients):
        x, y, inner, outer, x_mean, x_rest, y_mean, y_rest, *saved = ctx.saved_tensors
        mean, uu, ux, uy, xx, xy, _ = (g[..., None] / x.shape[2] for g in (mean, *gradients))
        blocks = zip(
            _centered(x, (x_mean, x_rest), ctx.block),
            _centered(y, (y_mean, y_rest), ctx.block),
            saved[: len(saved) // 2],
            saved[len(saved) // 2 :],
        )
        x_gradient, inner_gradient, outer_gradient = [], 0, 0
        for a, b, t, u in blocks:
            of_u = (2 * uu * u).addcmul_(ux, a).addcmul_(uy, b)
            of_t = outer.mT @ of_u
            outer_gradient = outer_gradient + of_u @ t.mT
            inner_gradient = inner_gradient + of_t @ a.mT
            of_x = torch.addcmul(mean, 2 * xx, a).addcmul_(ux, u).addcmul_(xy, b)
            x_gradient.append(of_x.baddbmm_(_for_each(inner.mT, x), of_t))
        return torch.cat(x_gradient, 2), None, inner_gradient.sum(0), outer_gradient


COVARIANCES = _Covariances.__name__  # under which a trace knows it


def _for_each(matrix, images):
    return matrix.expand(len(images), -1, -1)


def _means(x, block):
    """Returns the mean over positions and what rounding took from it, ``(N, C, 1)``."""
    mean = x.mean(2, keepdim=True)
    return mean, sum((part - mean).sum(2, keepdim=True) for part in x.split(block, 2)) / x.shape[2]


def _centered(x, means, block):
    """Yields x without its mean, some positions at a time."""
    mean, rest = means
    for part in x.split(block, 2):
        yield (part - mean).sub_(rest)


def instance_normalized_mse(
    student_variance: Tensor, covariance: Tensor, teacher_variance: Tensor, eps: float = 1e-5
) -> Tensor:
    """Evaluates ``mse_loss(instance_norm(z), instance_norm(y))`` from moments over positions.

    But for eps it is ``2 (1 - rho)``, with the mean correlation rho (CanKD, Sec. 3).

    Args:
        student_variance, covariance, teacher_variance: of z, of z with y, and of y, ``(N, C)``.
        eps: as that of the instance normalisation.

    Returns:
        A scalar.
    """
    student_variance = student_variance.clamp(min=0)  # rounding may take it below
    z, y = student_variance + eps, teacher_variance + eps
    return (student_variance / z + teacher_variance / y - 2 * covariance * z.rsqrt() * y.rsqrt()).mean()
