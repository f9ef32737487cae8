"""What a training run has written about itself."""

import json
import os
from collections import defaultdict

__all__ = ["HEADLINE_METRICS", "read_curves"]

HEADLINE_METRICS = ("bbox/AP", "segm/AP", "sem_seg/mIoU")


def read_curves(run: str) -> dict[str, dict[int, float]]:
    """Reads ``metrics.json`` of a run, finished or still going.

    Where a run was resumed from an earlier iteration, what it had written beyond that is left out, so that no curve
    jumps back. A last line that is torn, as that of a run still going may be, is left out too.

    Args:
        run: output directory, or the file itself.

    Returns:
        Map from name to values by iteration, in order. Iterations count from 0; an evaluation after iteration i is at
        i + 1, as Detectron2 writes it.

    Raises:
        ValueError: if the file is absent or holds no metrics, or a line before the last cannot be read.
    """
    path = os.path.join(run, "metrics.json") if os.path.isdir(run) else run
    try:
        with open(path) as f:
            lines = f.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({getattr(error, 'strerror', error)}): give the output directory of a training run"
        ) from error
    curves = defaultdict(dict)
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            iteration = values.pop("iteration")
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number}, is not a line of metrics: {error}") from error
        for name, value in values.items():
            curve = curves[name]
            for later in [i for i in curve if i >= iteration]:
                del curve[later]
            curve[iteration] = value
    if not curves:
        raise ValueError(f"{path} holds no metrics yet")
    return dict(curves)
