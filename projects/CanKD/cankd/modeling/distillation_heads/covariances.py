"""CanKD's loss without its fused feature: instance norm and MSE see two features by their variances and covariance."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["COVARIANCES", "Moments", "covariances", "instance_normalized_mse"]

BLOCK = 2**17  # values of an image that a CPU works on at a time, so that they stay in its cache


class Moments(NamedTuple):
    """Moments over the positions of each image, all ``(N, C)``: of x, y and the mapped feature u.

    All but the mean are of float64: a variance of z is a sum of them, which may be small where they are not.

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
        ctx.block = max(BLOCK // x.shape[1], 1) if x.device.type == "cpu" else x.shape[2]
        means = *_means(x, ctx.block), *_means(y, ctx.block)
        sums, mapped = 0, []
        for a, b in _centered_blocks(ctx.block, x, y, means):
            t = _for_each(inner, x) @ a
            u = outer @ t
            mapped += t, u
            pairs = [(u, u), (u, a), (u, b), (a, a), (a, b), (b, b)]
            sums = sums + torch.stack([(left * right).sum(2, dtype=torch.float64) for left, right in pairs])
        ctx.save_for_backward(x, y, inner, outer, *means, *mapped)
        moments = (sums / x.shape[2]).unbind()
        ctx.mark_non_differentiable(moments[-1])
        return means[0].squeeze(2), *moments

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        with torch.autocast(ctx.saved_tensors[0].device.type, enabled=False):  # a loop may call it within
            return _propagate(ctx, gradients)


def _propagate(ctx, gradients):
    x, y, inner, outer, *rest = ctx.saved_tensors
    means, mapped = rest[:4], rest[4:]
    mean, uu, ux, uy, xx, xy, _ = ((gradient[..., None] / x.shape[2]).to(x.dtype) for gradient in gradients)
    x_gradient = torch.empty_like(x)
    inner_gradient, outer_gradient = 0, 0
    blocks = _centered_blocks(ctx.block, x, y, means), mapped[::2], mapped[1::2], x_gradient.split(ctx.block, 2)
    for (a, b), t, u, part in zip(*blocks):
        u_gradient = (2 * uu * u).addcmul_(ux, a).addcmul_(uy, b)
        t_gradient = outer.mT @ u_gradient
        outer_gradient = outer_gradient + u_gradient @ t.mT
        inner_gradient = inner_gradient + t_gradient @ a.mT
        torch.addcmul(mean, 2 * xx, a, out=part).addcmul_(ux, u).addcmul_(xy, b)
        part.baddbmm_(_for_each(inner.mT, x), t_gradient)
    return x_gradient, None, inner_gradient.sum(0), outer_gradient


COVARIANCES = _Covariances.__name__  # under which a trace knows it


def _for_each(matrix, images):
    return matrix.expand(len(images), -1, -1)


def _means(x, block):
    """Returns the mean over positions and what rounding took from it, ``(N, C, 1)``."""
    mean = x.mean(2, keepdim=True)
    return mean, sum((part - mean).sum(2, keepdim=True) for part in x.split(block, 2)) / x.shape[2]


def _centered_blocks(block, x, y, means):
    """Yields x and y without their means, some positions at a time."""
    x_mean, x_rest, y_mean, y_rest = means
    for a, b in zip(x.split(block, 2), y.split(block, 2)):
        yield (a - x_mean).sub_(x_rest), (b - y_mean).sub_(y_rest)


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
