import functools
import os
import runpy

from cankd.utils import UserError, place_of, where

__all__ = ["dataset_root", "register_datasets"]


def dataset_root() -> str:
    """Returns the folder of the built-in data sets, ``$DETECTRON2_DATASETS``, as Detectron2 reads it."""
    return os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))


def register_datasets(path: str) -> None:
    """Runs a Python file that registers data sets, once: a data set cannot be registered again.

    Args:
        path: of the file.

    Raises:
        UserError: if it is absent or fails.
    """
    if not os.path.isfile(path):
        raise UserError(f"--datasets {path} does not exist{place_of(path)}: check the path")
    try:
        _run_once(os.path.realpath(path))
    except Exception as error:  # it is the user's
        raise UserError(f"--datasets {path} fails with {type(error).__name__}: {error} ({where(error)})") from error


@functools.cache
def _run_once(path):
    runpy.run_path(path)
