import contextlib
import os

__all__ = ["begin_anew"]


def begin_anew(folder: str) -> None:
    """Makes a folder a run's first: removes what tells a run that it was begun there. Weights are written over.

    Args:
        folder: of the run; it is made if it is not there.
    """
    os.makedirs(folder, exist_ok=True)
    for name in ("results.json", "last_checkpoint", "metrics.json", "evaluations.json"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, name))
