"""CanKD's loss without its fused feature: instance norm and MSE see two features by their covariances alone."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["COVARIANCES", "covariances", "instance_normalized_mse"]

BLOCK = 4096  # positions that are centred at a time: small enough for the cache, large enough for the matrix products


def covariances(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes moments over all positions of two features, image by image.

    Only the features themselves are kept for the backward pass, and none of their size is made but the gradient.

    Args:
        student: x, ``(N, C, H, W)``.
        teacher: y, ``(N, C, H, W)``, a constant: it gets no gradient.

    Returns:
        The mean of x, ``(N, C)``; its covariances, ``(N, C, C)``; those of x, in rows, with y, in columns,
        ``(N, C, C)``; the variance of y, ``(N, C)``.
    """
    return _Covariances.apply(student, teacher)


class _Covariances(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student, teacher):
        ctx.size = student.shape[2:]
        x, y = student.flatten(2), teacher.flatten(2)
        x_mean, y_mean = x.mean(2, keepdim=True), y.mean(2, keepdim=True)
        xx, xy, yy = 0, 0, 0
        for x_block, y_block in zip(x.split(BLOCK, 2), y.split(BLOCK, 2)):
            # Products of uncentred values would lose the digits that a large mean and a small variance differ in.
            x_block, y_block = x_block - x_mean, y_block - y_mean
            xx = xx + x_block @ x_block.mT
            xy = xy + x_block @ y_block.mT
            yy = yy + torch.linalg.vecdot(y_block, y_block)
        ctx.save_for_backward(x, y, x_mean, y_mean)
        positions = x.shape[2]
        y_variance = yy / positions
        ctx.mark_non_differentiable(y_variance)
        return x_mean.squeeze(2), xx / positions, xy / positions, y_variance

    @staticmethod
    @once_differentiable
    def backward(ctx, mean_gradient, xx_gradient, xy_gradient, _):
        x, y, x_mean, y_mean = ctx.saved_tensors
        of_x = (xx_gradient + xx_gradient.mT) / x.shape[2]
        of_y = xy_gradient / x.shape[2]
        constant = mean_gradient[..., None] / x.shape[2] - of_x @ x_mean - of_y @ y_mean
        gradient = torch.baddbmm(constant, of_x, x).baddbmm_(of_y, y)
        return gradient.unflatten(2, ctx.size), None


COVARIANCES = _Covariances.__name__  # under which a trace knows it


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
    return (student_variance / z + teacher_variance / y - 2 * covariance * (z * y).rsqrt()).mean()
