import contextlib
import json
import os
from collections.abc import Mapping

from cankd.data import CORRUPTION_GROUPS, SEVERITIES, Cell
from cankd.evaluation import Grid
from cankd.utils import UserError, write_json

__all__ = ["CellStore", "read_grids"]


_CORRUPTIONS = ("clean", *(name for group in CORRUPTION_GROUPS.values() for name in group))


class CellStore:
    """Keeps the results of one model's cells, a file each, as long as model, data and settings stay the same."""

    def __init__(self, folder: str, data: str, model: str):
        """
        Args:
            folder: of the files; made when the first is written.
            data, model: fingerprints of what decides the results: test set and settings, weights and architecture.
        """
        self._folder = folder
        self._fingerprints = {"data": data, "model": model}

    def load(self) -> Grid:
        """Returns the results that are there under these fingerprints."""
        found = [_read(path) for path in _files(self._folder)]
        return {cell: results for cell, results, fingerprints in found if fingerprints == self._fingerprints}

    def drop_others(self) -> int:
        """Removes the results of other models, data and settings, and returns how many there were."""
        others = [path for path in _files(self._folder) if _read(path)[2] != self._fingerprints]
        for path in others:
            os.remove(path)
        return len(others)

    def save(self, cell: Cell, results: dict) -> None:
        """Writes a cell's results, whole or not at all.

        Raises:
            UserError: if they cannot be written, for example because the disk is full.
        """
        path = os.path.join(self._folder, f"{cell}.json")
        contents = {**cell._asdict(), "fingerprints": self._fingerprints, "results": results}
        try:
            os.makedirs(self._folder, exist_ok=True)
            write_json(path, contents)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror or error}). What was finished before is kept: once there "
                "is room, the same command does the rest"
            ) from error


def read_grids(folders: Mapping[str, str]) -> dict[str, Grid]:
    """Reads all results of several models.

    Args:
        folders: map from a model's name to the folder of its results.

    Raises:
        UserError: if there are none, those of a folder are of different models, or those of two folders of different
            data or settings.
    """
    grids, data = {}, {}
    for name, folder in folders.items():
        found = [_read(path) for path in _files(folder)]
        if not found:
            raise UserError(
                f"{folder} holds no results on corrupted images: give the folder of a model, OUTPUT_DIR/robustness/"
                "NAME, that lazyconfig_train_net.py --eval-only --coco-c has written"
            )
        if any(fingerprints != found[0][2] for *_, fingerprints in found):
            raise UserError(
                f"{folder} holds results of different models, data or settings: run the evaluation with --coco-c "
                "again, it replaces those that do not belong"
            )
        grids[name] = {cell: results for cell, results, _ in sorted(found, key=_order)}
        data[name] = found[0][2]["data"]
    if others := [name for name in data if data[name] != data[next(iter(data))]]:
        raise UserError(
            f"{next(iter(data))} and {others[0]} were evaluated on different test sets, or with different settings of "
            "reading and evaluating: they cannot be compared"
        )
    return grids


def _order(found):
    """Clean images first, then as the benchmark has its corruptions."""
    cell = found[0]
    return _CORRUPTIONS.index(cell.corruption), cell.severity


def _files(folder):
    with contextlib.suppress(FileNotFoundError):
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    return []


def _read(path):
    try:
        with open(path) as f:
            contents = json.load(f)
        cell = Cell(contents["corruption"], contents["severity"])
        if cell.corruption not in _CORRUPTIONS or cell.severity not in SEVERITIES:
            raise ValueError(f"there is no cell {cell}")
        results = {
            task: {m: _number(value) for m, value in found.items()} for task, found in contents["results"].items()
        }
        return cell, results, {name: contents["fingerprints"][name] for name in ("data", "model")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} holds no results of a cell ({type(error).__name__}: {error}): give the folder of a model's cells, "
            "such as OUTPUT/robustness/student, or remove the file if it is a damaged result"
        ) from error


def _number(value):
    return value if value is None else float(value)
