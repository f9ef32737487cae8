import contextlib
import json
import os

from cankd.data import Cell
from cankd.evaluation import Grid

from .files import write_json

__all__ = ["CellStore", "read_grid"]


class CellStore:
    """Keeps the results of one model's cells, a file each, as long as model, data and settings stay the same."""

    def __init__(self, folder: str, fingerprint: str):
        """
        Args:
            folder: of the files; made when the first is written.
            fingerprint: of everything that decides the results.
        """
        self._folder = folder
        self._fingerprint = fingerprint

    def load(self) -> Grid:
        """Returns the results that are there under this fingerprint."""
        found = (_read(path) for path in _files(self._folder))
        return {cell: results for cell, results, fingerprint in found if fingerprint == self._fingerprint}

    def drop_others(self) -> int:
        """Removes the results of other models, data and settings, and returns how many there were."""
        others = [path for path in _files(self._folder) if _read(path)[2] != self._fingerprint]
        for path in others:
            os.remove(path)
        return len(others)

    def save(self, cell: Cell, results: dict) -> None:
        """Writes a cell's results, whole or not at all.

        Raises:
            ValueError: if they cannot be written, for example because the disk is full.
        """
        path = os.path.join(self._folder, f"{cell}.json")
        contents = {**cell._asdict(), "fingerprint": self._fingerprint, "results": results}
        try:
            os.makedirs(self._folder, exist_ok=True)
            write_json(path, contents)
        except OSError as error:
            raise ValueError(
                f"{path} cannot be written ({error.strerror or error}). What was finished before is kept: once there "
                "is room, the same command does the rest"
            ) from error


def read_grid(folder: str) -> Grid:
    """Reads all results of a folder.

    Raises:
        ValueError: if there are none, or they are of different models, data or settings.
    """
    found = [_read(path) for path in _files(folder)]
    if not found:
        raise ValueError(
            f"{folder} holds no results on corrupted images: give the folder of a model, OUTPUT_DIR/robustness/NAME, "
            "that lazyconfig_train_net.py --eval-only --coco-c has written"
        )
    if len({fingerprint for *_, fingerprint in found}) > 1:
        raise ValueError(
            f"{folder} holds results of different models, data or settings: run the evaluation with --coco-c again, "
            "it replaces those that do not belong"
        )
    return {cell: results for cell, results, _ in found}


def _files(folder):
    with contextlib.suppress(FileNotFoundError):
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    return []


def _read(path):
    try:
        with open(path) as f:
            contents = json.load(f)
        return Cell(contents["corruption"], contents["severity"]), contents["results"], contents["fingerprint"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no results of a cell ({type(error).__name__}: {error}): remove it") from error
