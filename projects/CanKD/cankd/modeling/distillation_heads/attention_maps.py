"""Where a feature is large: attention over positions and over channels, as FGD and FKD have it."""

import torch
from torch import Tensor

__all__ = ["channel_attention", "spatial_attention"]


def spatial_attention(x: Tensor, temperature: float) -> Tensor:
    """Computes ``A(x) = HW * softmax_p(mean_c |x| / T)`` (FGD, Sec. 3.1).

    Args:
        x: ``(N, C, H, W)``.
        temperature: T, above 0; a small one sharpens.

    Returns:
        ``(N, 1, H, W)``, of mean 1 over the positions of an image.
    """
    # The norm is the sum of magnitudes, without a tensor of them.
    mean = torch.linalg.vector_norm(x, ord=1, dim=1, keepdim=True) / x.shape[1]
    return (mean / temperature).flatten(2).softmax(2).view_as(mean) * mean[0].numel()


def channel_attention(x: Tensor, temperature: float) -> Tensor:
    """Computes ``B(x) = C * softmax_c(mean_p |x| / T)`` (FGD, Sec. 3.1).

    Args:
        x: ``(N, C, H, W)``.
        temperature: T, above 0; a small one sharpens.

    Returns:
        ``(N, C, 1, 1)``, of mean 1 over the channels of an image.
    """
    mean = torch.linalg.vector_norm(x, ord=1, dim=(2, 3), keepdim=True) / x[0, 0].numel()
    return (mean / temperature).softmax(1) * x.shape[1]
