"""Whether the distillation's weight fits the task, by the first step's gradients."""

import math

__all__ = ["KNOWN_TO_HELP", "suggest_weight"]

KNOWN_TO_HELP = 0.1, 100.0
"""Ratios, distillation against task, of the gradients at the student's parameters in the first step.

Those of pairs of Digit Scenes that gain with CanKD's published weight lie between 0.2 and 64
(benchmarks/gradient_balance.md); rounded outwards to powers of ten."""

MARGIN = 10.0
"""Factor beyond :data:`KNOWN_TO_HELP` that may be all right: fewer images or another method change as much. The
published weights of all methods here, on RetinaNet of Digit Scenes, have ratios from 0.012 (KD) to 480 (AT)."""


def suggest_weight(weight: float, ratio: float) -> float | None:
    """Suggests a weight of the distillation from which to start, where the present one is out of all proportion.

    Args:
        weight: the present one.
        ratio: of the gradients with it, distillation against task.

    Returns:
        The nearest weight whose ratio lies in :data:`KNOWN_TO_HELP`, to two digits; None if the present one's is not
        far from it, or nothing can be said.
    """
    low, high = KNOWN_TO_HELP
    if not 0 < ratio < math.inf or low / MARGIN <= ratio <= high * MARGIN:
        return None
    return float(f"{weight * (low if ratio < low else high) / ratio:.2g}")
