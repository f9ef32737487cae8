"""The search space of DetKDS (Li et al., ICML 2024): operations and distances, by their names in the published code.

An operation takes a feature ``(N, C, H, W)``; the first and the second give a map again, some of the third do not. A
distance takes what came out for student and teacher, of one shape, and returns a scalar.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention_maps import channel_attention, spatial_attention

__all__ = [
    "DISTANCES",
    "FIRST_OPERATIONS",
    "FLATTENS",
    "NEEDS_BATCH",
    "RANDOM_FACTORS",
    "RESIZES",
    "SECOND_OPERATIONS",
    "THIRD_OPERATIONS",
]

TEMPERATURE = 0.5  # of the attentions
MASKED_FRACTION = 0.65
DROPPED_FRACTION = 0.1


def attend_positions(feature: Tensor) -> Tensor:
    """Returns ``x sqrt(A(x))``; unlike in FGD, A carries the student's gradient."""
    return feature * _root(spatial_attention(feature, TEMPERATURE))


def attend_channels(feature: Tensor) -> Tensor:
    """Returns ``x sqrt(B(x))``; unlike in FGD, B carries the student's gradient."""
    return feature * _root(channel_attention(feature, TEMPERATURE))


def _root(attention):
    # A softmax may be rounded to 0, where the root's gradient is infinite.
    return attention.clamp(min=torch.finfo(attention.dtype).tiny).sqrt()


def attend_images(feature: Tensor) -> Tensor:
    """Returns ``N softmax_n(x / T)``."""
    return len(feature) * (feature / TEMPERATURE).softmax(0)


def random_mask(feature: Tensor, generator: torch.Generator) -> Tensor:
    """Returns MGD's mask, ``(N, 1, H, W)``: 0 where a uniform draw is above ``1 - 0.65``, 1 elsewhere."""
    draws = torch.rand(feature[:, :1].shape, generator=generator, device=feature.device)
    return (draws <= 1 - MASKED_FRACTION).to(feature)


def random_dropout(feature: Tensor, generator: torch.Generator) -> Tensor:
    """Returns factors of whole channels, ``(N, C, 1, 1)``: 0 for a tenth of them, 1 / 0.9 for the others."""
    draws = torch.rand(feature[:, :, :1, :1].shape, generator=generator, device=feature.device)
    return (draws >= DROPPED_FRACTION).to(feature) / (1 - DROPPED_FRACTION)


def _pad(feature, side):
    """Pads with zeros, right and below, to a multiple of a side."""
    height, width = feature.shape[2:]
    return F.pad(feature, (0, -width % side, 0, -height % side))


def max_pooling(feature: Tensor, side: int) -> Tensor:
    """Returns the largest entry of each side × side patch, ``(N, C, H / side, W / side)``, rounded up."""
    return F.max_pool2d(_pad(feature, side), side)


def patches(feature: Tensor, side: int) -> Tensor:
    """Makes a channel of each side × side patch, ``(N, C H/side W/side, side, side)``, with H and W rounded up."""
    feature = (
        _pad(feature, side).unflatten(3, (-1, side)).unflatten(2, (-1, side))
    )  # (N, C, H/side, side, W/side, side)
    return feature.transpose(3, 4).flatten(1, 3)


def to_unit_range(feature: Tensor) -> Tensor:
    """Returns ``(x + 1) / 2``."""
    return (feature + 1) / 2


def position_norm(feature: Tensor) -> Tensor:
    """Scales each channel of an image to unit length over its positions."""
    return F.normalize(feature.flatten(2), dim=2).view_as(feature)


def position_softmax(feature: Tensor) -> Tensor:
    """Returns the softmax over positions, ``(N, C, HW)``."""
    return feature.flatten(2).softmax(2)


def position_log_softmax(feature: Tensor) -> Tensor:
    """Returns the logarithm of the softmax over positions, ``(N, C, HW)``."""
    return feature.flatten(2).log_softmax(2)


def min_max_normalize(feature: Tensor) -> Tensor:
    """Brings all entries of the batch together to 0 … 1."""
    least, largest = feature.aminmax()
    return (feature - least) / (largest - least + 1e-9)


def batch_norm(feature: Tensor) -> Tensor:
    """Normalises each channel over images and positions, without parameters."""
    return F.batch_norm(feature, None, None, training=True)


def channel_gram(feature: Tensor) -> Tensor:
    """Returns the Gram matrix of an image's channels, ``(N, C, C)``."""
    rows = feature.flatten(2)
    return rows @ rows.mT


def batch_gram(feature: Tensor) -> Tensor:
    """Returns the Gram matrix of the batch's images, ``(N, N)``."""
    rows = feature.flatten(1)
    return rows @ rows.mT


def kl_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the mean of ``b (log b - a)``, of the student's log-probabilities a and the teacher's probabilities b."""
    return F.kl_div(student, teacher, reduction="none").mean()


def cosine_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the cosine similarity over dimension 1, *not* 1 minus it: minimising it drives the two apart."""
    return F.cosine_similarity(student, teacher, dim=1).mean()


def pearson_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns 1 minus Pearson's correlation over dimension 1."""
    student, teacher = (x - x.mean(1, keepdim=True) for x in (student, teacher))
    norms = student.norm(dim=1) * teacher.norm(dim=1)
    return 1 - ((student * teacher).sum(1) / (norms + 1e-8)).mean()


def correlation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns ``log2 sum ((c - 1)^2)^1.01``, c being each entry's correlation over the batch."""
    student, teacher = ((x - x.mean(0)) / x.std(0) for x in (student, teacher))
    correlation = (student * teacher).mean(0)
    return (correlation - 1).square().pow(1.01).sum().log2()


FIRST_OPERATIONS = {
    "no": nn.Identity(),
    "satt": attend_positions,
    "catt": attend_channels,
    "natt": attend_images,
}
RANDOM_FACTORS = {"mask": random_mask, "drop": random_dropout}
"""The other first operations, which multiply by random factors."""
SECOND_OPERATIONS = {
    "no": nn.Identity(),
    "scale_r1": nn.Identity(),
    "scale_r2": functools.partial(max_pooling, side=2),
    "multi_scale_r4": functools.partial(max_pooling, side=4),
    "local_s1": functools.partial(patches, side=1),
    "local_s2": functools.partial(patches, side=2),
    "local_s4": functools.partial(patches, side=4),
    "scale": to_unit_range,
}
THIRD_OPERATIONS = {
    "no": nn.Identity(),
    "bmm": channel_gram,
    "mm": batch_gram,
    "batch": functools.partial(torch.flatten, start_dim=1),
    "channel": functools.partial(torch.flatten, start_dim=2),
    "norm_HW": position_norm,
    "norm_C": functools.partial(F.normalize, dim=1),
    "norm_N": functools.partial(F.normalize, dim=0),
    "softmax_N": functools.partial(torch.softmax, dim=0),
    "softmax_C": functools.partial(torch.softmax, dim=1),
    "softmax_HW": position_softmax,
    "logsoftmax_N": functools.partial(torch.log_softmax, dim=0),
    "logsoftmax_C": functools.partial(torch.log_softmax, dim=1),
    "logsoftmax_HW": position_log_softmax,
    "min_max_normalize": min_max_normalize,
    "batchnorm": batch_norm,
}
DISTANCES = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "smooth_l1": F.smooth_l1_loss,
    "kl": kl_divergence,
    "cos": cosine_similarity,
    "pear": pearson_distance,
    "cor": correlation_distance,
}

RESIZES = {"scale_r2", "multi_scale_r4", "local_s1", "local_s2", "local_s4"}
"""Second operations after which a position is another place of the image."""
FLATTENS = {"bmm", "mm", "batch", "channel", "softmax_HW", "logsoftmax_HW"}
"""Third operations after which there are no positions."""
NEEDS_BATCH = {"natt", "mm", "norm_N", "softmax_N", "logsoftmax_N", "cor"}
"""Operations and distances over the images of a batch."""
