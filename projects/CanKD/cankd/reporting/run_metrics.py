"""What a training run has written about itself."""

import json
import logging
import os
from collections import defaultdict

__all__ = ["read_curves"]

logger = logging.getLogger(__name__)


def read_curves(run: str) -> dict[str, dict[int, float]]:
    """Reads ``metrics.json`` of a run, finished or still going.

    Where a run was resumed from an earlier iteration, what it had written beyond that is left out, so that no curve
    jumps back. A line that is torn, as the last of a run still going may be, is left out with a warning.

    Args:
        run: output directory, or the file itself.

    Returns:
        Map from name to values by iteration, in order; iterations count from 0.

    Raises:
        ValueError: if the file is absent or holds no metrics.
    """
    path = os.path.join(run, "metrics.json") if os.path.isdir(run) else run
    try:
        with open(path) as f:
            lines = f.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({getattr(error, 'strerror', error)}): give the output directory of a training run"
        ) from error
    curves, last = defaultdict(dict), -1
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            iteration = values.pop("iteration")
        except (json.JSONDecodeError, KeyError, AttributeError):
            logger.warning("%s, line %d, is torn and left out.", path, number)
            continue
        if iteration < last:  # resumed
            curves = {name: {i: v for i, v in curve.items() if i < iteration} for name, curve in curves.items()}
            curves = defaultdict(dict, curves)
        last = iteration
        for name, value in values.items():
            curves[name][iteration] = value
    if not curves:
        raise ValueError(f"{path} holds no metrics yet")
    return {name: curve for name, curve in curves.items() if curve}
