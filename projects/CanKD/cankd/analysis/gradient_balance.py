"""Whether the distillation's weight fits the task, by the first step's gradients."""

import math

__all__ = ["GOOD_RATIOS", "suggest_weight"]

GOOD_RATIOS = 0.1, 100.0
"""Ratios, distillation against task, of the gradients at the student's parameters in the first step, that are known to
gain. Measured on the pairs of Digit Scenes, with CanKD's published weight, μ = 5: † RetinaNet 0.15 to 1, semantic FPN
0.4 to 0.6, PSPNet 1.3 to 1.9, † Faster R-CNN 1.9 to 3.9, Faster R-CNN 9 to 13, RetinaNet 46 to 73; rounded outwards to
powers of ten. Students that start from random weights have the larger ones, which fall to about 5 within 20 steps."""


def suggest_weight(weight: float, ratio: float) -> float | None:
    """Suggests a weight of the distillation from which to start.

    Args:
        weight: the present one.
        ratio: of the gradients with it, distillation against task.

    Returns:
        The nearest weight whose ratio lies in :data:`GOOD_RATIOS`, to two digits; None if the present one's does, or
        nothing can be said.
    """
    low, high = GOOD_RATIOS
    if not 0 < ratio < math.inf or low <= ratio <= high:
        return None
    return float(f"{weight * (low if ratio < low else high) / ratio:.2g}")
