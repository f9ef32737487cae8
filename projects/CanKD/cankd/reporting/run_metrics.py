"""What a training run has written about itself."""

import functools
import json
import logging
import os
import re
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
    runs = [{}]  # until the first interruption, and from each one on
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if not all(isinstance(value, Real) for value in values.values()):
                raise ValueError("a metric is no number")
            iteration = values.pop("iteration")
        except (AttributeError, KeyError, ValueError):
            logger.warning("%s, line %d, is damaged and left out.", path, number)
            continue
        # The lines of one moment are in no order, but a name comes back at an earlier iteration only after a resume.
        if any(iteration <= next(reversed(runs[-1].get(name, {})), -1) for name in values):
            runs.append({})
        for name, value in values.items():
            runs[-1].setdefault(name, {})[iteration] = value
    curves = functools.reduce(_continue, runs)
    if not curves:
        raise UserError(f"{path} holds no metrics yet")
    return Curves(curves, _read_distillation_losses(os.path.dirname(path), curves))


def _continue(curves, resumed):
    """Returns curves as far as the iteration where a run was resumed, and from there on those of the resumed run."""
    start = min(i for curve in resumed.values() for i in curve)
    joined = {name: {i: v for i, v in curve.items() if i < start} for name, curve in curves.items()}
    for name, curve in resumed.items():
        joined[name] = joined.get(name, {}) | curve
    return {name: curve for name, curve in joined.items() if curve}


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
