"""Broken checkpoints, hostile ones, and strange ones that may be accepted."""

import os
import pathlib
import pickle
import shutil
from collections.abc import Callable, Mapping

import torch
from torch import nn

__all__ = ["BROKEN_CHECKPOINTS", "STRANGE_CHECKPOINTS", "Touch"]


class Touch:
    """Makes a file when it is unpickled: code in a checkpoint."""

    def __init__(self, marker: pathlib.Path):
        """
        Args:
            marker: the file.
        """
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def _change(change: Callable[[dict], object]) -> Callable[[pathlib.Path, pathlib.Path], None]:
    """Changes the entries of a checkpoint; if something is returned, it takes their place."""

    def apply(path, marker):
        contents = torch.load(path, weights_only=True)
        replaced = change(contents)
        torch.save(contents if replaced is None else replaced, path)

    return apply


def _change_weights(change: Callable[[torch.Tensor], object], all_of_them: bool = True):
    """Changes the floating-point weights, or the first alone."""

    def apply(contents):
        names = [name for name, value in contents["model"].items() if value.is_floating_point()]
        for name in names if all_of_them else names[:1]:
            contents["model"][name] = change(contents["model"][name])

    return _change(apply)


def _keep(share: float):
    def apply(path, marker):
        contents = path.read_bytes()
        path.write_bytes(contents[: int(share * len(contents))])

    return apply


def _write(contents: bytes):
    return lambda path, marker: path.write_bytes(contents)


def _flip_bytes(path, marker):
    contents = bytearray(path.read_bytes())
    for i in range(len(contents) // 2, len(contents) // 2 + 200):
        contents[i] ^= 255
    path.write_bytes(contents)


def _replace_by(make):
    def apply(path, marker):
        path.unlink()
        make(path)

    return apply


def _pickle_code(path, marker):
    path.write_bytes(pickle.dumps({"model": {"weight": Touch(marker)}}))


def _save_code(path, marker):
    torch.save({"model": torch.load(path, weights_only=True)["model"], "extra": Touch(marker)}, path)


def _save_module(path, marker):
    torch.save(nn.Linear(2, 2), path)


def _drop(part: Callable[[str], bool]):
    def change(contents):
        contents["model"] = {name: value for name, value in contents["model"].items() if not part(name)}

    return _change(change)


def _empty_model(contents):
    contents["model"] = {}


def _link_to_itself(path):
    path.symlink_to(path.name)


BROKEN_CHECKPOINTS: Mapping[str, Callable[[pathlib.Path, pathlib.Path], None]] = {
    "cut off near the end": _keep(0.95),
    "cut off in the middle": _keep(0.5),
    "cut off in its head": _keep(0.0005),
    "bytes changed": _flip_bytes,
    "empty": _write(b""),
    "text": _write(b"hello"),
    "HTML": _write(b"<html><body>404 Not Found</body></html>"),
    "zero bytes": _write(bytes(5000)),
    "code, pickled": _pickle_code,
    "code beside the weights": _save_code,
    "a whole module": _save_module,
    "NaN": _change_weights(lambda value: value * torch.nan),
    "one NaN weight": _change_weights(lambda value: value * torch.nan, all_of_them=False),
    "infinity": _change_weights(lambda value: value + torch.inf),
    "integers": _change_weights(lambda value: (100 * value).to(torch.int8)),
    "complex numbers": _change_weights(lambda value: value.to(torch.complex64)),
    "booleans": _change_weights(lambda value: value > 0),
    "one shape wrong": _change_weights(lambda value: value[..., None], all_of_them=False),
    "all shapes wrong": _change_weights(lambda value: value[None]),
    "scalars": _change_weights(lambda value: value.mean()),
    "sparse tensors": _change_weights(lambda value: value.to_sparse()),
    "strings": _change_weights(str),
    "without the head": _drop(lambda name: name.startswith("head.")),
    "without the backbone": _drop(lambda name: name.startswith("backbone.")),
    "without one weight": _drop(lambda name: name == "head.cls_score.weight"),
    "without weights": _change(_empty_model),
    "another architecture": _change(lambda contents: {"model": nn.Conv2d(3, 3, 3).state_dict()}),
    "a list": _change(lambda contents: [1, 2, 3]),
    "a number": _change(lambda contents: 7),
    "a tensor": _change(lambda contents: torch.zeros(3)),
    "a list as the model": _change(lambda contents: {**contents, "model": [1, 2]}),
    "a nested model": _change(lambda contents: {"model": {"model": {"model": contents["model"]}}}),
    "names that are numbers": _change(lambda contents: {"model": dict(enumerate(contents["model"].values()))}),
    "a folder": _replace_by(os.mkdir),
    "a pipe": _replace_by(os.mkfifo),
    "absent": _replace_by(lambda path: None),
    "a link to itself": _replace_by(_link_to_itself),
}
"""Functions that make a checkpoint unusable, given its path and a file that code in it makes if it is run."""


def _as_pickle(path, marker):
    weights = {name: value.numpy() for name, value in torch.load(path, weights_only=True)["model"].items()}
    with open(path.with_suffix(".pkl"), "wb") as f:
        pickle.dump({"model": weights, "__author__": "me"}, f)
    shutil.move(path.with_suffix(".pkl"), path)


STRANGE_CHECKPOINTS: Mapping[str, Callable[[pathlib.Path, pathlib.Path], None]] = {
    "weights in double precision": _change_weights(lambda value: value.double()),
    "weights in half precision": _change_weights(lambda value: value.half()),
    "an entry more": _change(lambda contents: {**contents, "note": "mine"}),
    "weights that are no block of memory": _change_weights(
        lambda value: value.t().contiguous().t() if value.ndim == 2 else value
    ),
}
"""Functions that make it strange, but not unusable."""
