"""What a training run has written about itself."""

import json
import logging
import os
import re
from collections import defaultdict
from numbers import Real

from cankd.engine import DISTILLATION_LOSSES
from cankd.utils import UserError

__all__ = ["Curves", "read_curves"]

logger = logging.getLogger(__name__)


class Curves(dict):
    """Map from name to values by iteration, in order; iterations count from 0.

    Attributes:
        distillation_losses: map from level to the names of its losses.
    """

    def __init__(self, curves: dict[str, dict[int, float]], distillation_losses: dict[str, list[str]]):
        """
        Args:
            curves, distillation_losses: see above.
        """
        super().__init__(curves)
        self.distillation_losses = distillation_losses


def read_curves(run: str) -> Curves:
    """Reads ``metrics.json`` of a run, finished or still going.

    Where a run was resumed from an earlier iteration, what it had written beyond that is left out, so that no curve
    jumps back. A line that is damaged, as the last of a run still going may be torn, is left out with a warning.

    Args:
        run: output directory, or the file itself.

    Returns:
        The curves by name.

    Raises:
        UserError: if the file is absent or holds no metrics, or the list of distillation losses is damaged.
    """
    path = os.path.join(run, "metrics.json") if os.path.isdir(run) else run
    try:
        with open(path) as f:
            lines = f.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({getattr(error, 'strerror', error)}): give the output directory of a training run"
        ) from error
    curves, last = defaultdict(dict), -1
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if not all(isinstance(value, Real) for value in values.values()):
                raise ValueError("a metric is no number")
            iteration = values.pop("iteration")
        except (AttributeError, KeyError, ValueError):
            logger.warning("%s, line %d, is damaged and left out.", path, number)
            continue
        if iteration < last:  # resumed
            curves = {name: {i: v for i, v in curve.items() if i < iteration} for name, curve in curves.items()}
            curves = defaultdict(dict, curves)
        last = iteration
        for name, value in values.items():
            curves[name][iteration] = value
    if not curves:
        raise UserError(f"{path} holds no metrics yet")
    curves = {name: curve for name, curve in curves.items() if curve}
    return Curves(curves, _read_distillation_losses(os.path.dirname(path), curves))


def _read_distillation_losses(folder, curves):
    try:
        path = os.path.join(folder, DISTILLATION_LOSSES)
        with open(path) as f:
            return {level: [str(name) for name in names] for level, names in json.load(f).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not list the distillation losses by level ({error}): remove it") from error
    except FileNotFoundError:  # written before there were other methods, or no distillation
        levels = (re.fullmatch("loss_cankd_(.+)", name) for name in curves)
        return {match[1]: [match[0]] for match in levels if match}
