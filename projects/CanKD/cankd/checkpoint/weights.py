"""Reading checkpoints without running code in them, and loading them with an account of every key."""

import dataclasses
import logging
import os
import pickle
import re
import zipfile
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import torch
from cankd.utils import UserError, place_of
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from safetensors.torch import load_file
from torch import Tensor, nn

from .efficientnet import rename_efficientnet

__all__ = [
    "LoadReport",
    "VerifyingCheckpointer",
    "check_checkpoint",
    "load_all_weights",
    "read_checkpoint",
    "read_weights",
]

logger = logging.getLogger(__name__)

# What the pickles of Detectron2's model zoo consist of.
_HARMLESS = {
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}


class _NumpyUnpickler(pickle.Unpickler):
    """Admits numpy arrays and containers, and nothing that could run code."""

    def find_class(self, module, name):
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not an array or a container")


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What happened to each key when weights were loaded.

    Attributes:
        loaded, missing, unexpected: names; missing ones are the model's, unexpected ones the file's.
        reshaped: (name, shape in the file, shape in the model); these keep their initial values.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]]

    def __str__(self):
        return (
            f"{len(self.loaded)} keys loaded, {_count(self.missing)} missing, {_count(self.unexpected)} unexpected, "
            f"{_count([_describe_shapes(*row) for row in self.reshaped])} of another shape"
        )


def _count(names, shown=4):
    if not names:
        return "none"
    more = f", … and {len(names) - shown} more" if len(names) > shown else ""
    return f"{len(names)} ({', '.join(names[:shown])}{more})"


def _describe_shapes(name, in_file, in_model):
    return f"{name}: {in_file} in the file, {in_model} in the model"


def check_checkpoint(path: str) -> None:
    """Makes sure that a checkpoint is there; one from elsewhere is fetched.

    Args:
        path: file, URL, or any other that Detectron2 reads, with what it takes behind a question mark.

    Raises:
        UserError: if there is none.
    """
    path = path.split("?")[0]
    try:
        local = PathManager.get_local_path(path)
    except OSError as error:
        raise UserError(f"the checkpoint {path} cannot be fetched: {error}") from error
    if os.path.isdir(local):
        raise UserError(
            f"{path} is a folder: name the checkpoint in it, such as {os.path.join(path, 'model_final.pth')}"
        )
    if not os.path.isfile(local):
        raise UserError(
            f"there is no checkpoint {path}{place_of(path)}: check the path. A teacher that a config of its own trains "
            "has to be trained first"
        )


class VerifyingCheckpointer(DetectionCheckpointer):
    """A :class:`DetectionCheckpointer` that runs no code from a file and keeps account of the keys.

    After :meth:`load`, ``report`` is the :class:`LoadReport`, and ``matched_by_suffix`` tells whether keys were matched
    by Detectron2's heuristics, as those of a pre-trained backbone are; both are None if no path was given.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.report: LoadReport | None = None
        self.matched_by_suffix: bool | None = None

    def load(self, path: str, *args, **kwargs) -> dict:
        """See :meth:`DetectionCheckpointer.load`.

        Raises:
            UserError: if the file is missing, truncated, or not a checkpoint, or a weight that the model takes is not a
                finite number, or an integer where the model has fractions.
        """
        self.report = self.matched_by_suffix = None
        if path:
            self._path = path.split("?")[0]  # Detectron2 takes ?matching_heuristics=True behind a path
            check_checkpoint(path)
        try:
            return super().load(path, *args, **kwargs)
        finally:
            self._parsed_url_during_load = None

    def _load_file(self, filename):
        try:
            if filename.endswith(".safetensors"):
                loaded = {"model": load_file(filename)}
            elif filename.endswith(".pkl"):
                loaded = _read_pickle(filename)
            else:
                _check_sums(filename)
                loaded = super()._load_file(filename)
            if parse_qs(self._parsed_url_during_load.query).get("matching_heuristics") == ["True"]:
                loaded["matching_heuristics"] = True
            if "state_dict" in loaded["model"]:  # as OpenMMLab's
                loaded["model"] = loaded["model"]["state_dict"]
        except Exception as error:  # a file from elsewhere can be wrong in any way
            raise UserError(
                f"{filename} ({os.path.getsize(filename):,} bytes) cannot be read as a checkpoint; it may be "
                f"truncated, of another kind, or hold code, which is not run: {_reason(error)}"
            ) from error
        weights = loaded["model"]
        if not isinstance(weights, dict) or not weights:
            raise UserError(f"{filename} holds no weights under 'model': it is no checkpoint of Detectron2")
        if foreign := [name for name, value in weights.items() if not _is_weight(name, value)]:
            raise UserError(
                f"{filename} is no checkpoint of Detectron2: instead of weights, or a dict of them under 'model', it "
                f"has {', '.join(map(str, foreign[:5]))}"
            )
        if "layer1.0.conv1.weight" in weights:
            renamed = _rename_from_torchvision(weights)
            if hasattr(self.model, "classifier"):
                renamed = {re.sub(r"^fc\.", "classifier.", name): value for name, value in renamed.items()}
            loaded.update(model=renamed, matching_heuristics=True)
        elif "_conv_stem.weight" in weights:
            loaded.update(model=rename_efficientnet(weights), matching_heuristics=True)
        return loaded

    def _torch_load(self, f):
        return torch.load(f, map_location="cpu", weights_only=True)

    def _convert_ndarray_to_tensor(self, state_dict):
        super()._convert_ndarray_to_tensor(state_dict)
        # As renamed by Detectron2.
        weights = {name.removeprefix("module."): value for name, value in state_dict.items()}
        self._names_in_file = set(weights)
        for name, own in self.model.state_dict().items():
            if name in weights and own.is_floating_point() and (fault := _fault(weights[name])):
                raise UserError(
                    f"{self._path} cannot be used: its weight {name} {fault}. Take a checkpoint from before training "
                    "failed, or save it anew as floating point numbers, not quantised"
                )

    def _load_model(self, checkpoint):
        self.matched_by_suffix = checkpoint.get("matching_heuristics", False)
        names = list(self.model.state_dict())
        incompatible = super()._load_model(checkpoint)
        reshaped = {name for name, _, _ in incompatible.incorrect_shapes}
        missing = [name for name in incompatible.missing_keys if name not in reshaped]
        self.report = LoadReport(
            loaded=[name for name in names if name in self._names_in_file - reshaped],
            missing=missing,
            unexpected=list(incompatible.unexpected_keys),
            reshaped=incompatible.incorrect_shapes,
        )
        return incompatible

    def _log_incompatible_keys(self, incompatible):
        """Leaves the account to whoever reads the report."""


def _reason(error):
    text = str(error).strip() or type(error).__name__
    if foreign := re.search(r"Unsupported global: GLOBAL (\S+)", text):
        return f"{foreign[1]} is in it. Save the weights alone where they come from, by model.state_dict()"
    return text.splitlines()[0]


def _fault(weight):
    """Returns what is wrong with a tensor that a network computes with."""
    if not weight.is_floating_point():
        return f"is of {weight.dtype}"
    return "" if weight.isfinite().all() else "has values that are NaN or infinite"


def _is_weight(name, value):
    if isinstance(value, Tensor):
        return isinstance(name, str) and value.layout == torch.strided and not value.is_complex()
    return isinstance(name, str) and isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _check_sums(filename):
    """Finds bytes that have changed, which torch.load does not look for."""
    if not zipfile.is_zipfile(filename):
        return
    with zipfile.ZipFile(filename) as archive:
        is_summed = any(entry.CRC for entry in archive.infolist())  # torch.serialization.set_crc32_options(False)
        if is_summed and (damaged := archive.testzip()):
            raise zipfile.BadZipFile(f"{damaged} in it has changed since it was written (checksum)")


def _read_pickle(filename):
    """Reads a file of Detectron2's or Caffe2's model zoo as :class:`DetectionCheckpointer` does, but runs no code."""
    with open(filename, "rb") as f:
        contents = _NumpyUnpickler(f, encoding="latin1").load()
    if "model" in contents and "__author__" in contents:
        return contents
    blobs = contents.get("blobs", contents)  # Caffe2's detectors have them, its ImageNet models are them
    weights = {name: blob for name, blob in blobs.items() if not name.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _rename_from_torchvision(weights):
    """Gives the weights of a ResNet of torchvision's, or of one that names its layers alike, Detectron2's names."""
    renamed = {}
    for name, value in weights.items():
        name = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", name)
        # OpenMMLab's stem of three convolutions is one sequence: convolution, norm, ReLU, and again.
        name = re.sub(r"^stem\.(\d)\.", lambda m: f"stem.{('conv', 'bn')[int(m[1]) % 3]}{int(m[1]) // 3 + 1}.", name)
        name = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", name)
        name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
        renamed[re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)] = value
    return renamed


def load_all_weights(model: nn.Module, path: str, role: str) -> LoadReport:
    """Loads a checkpoint that has to have every weight of the model; what else it has is logged.

    Args:
        model: is changed in place.
        path: file or URL, any that Detectron2 reads, or ``.safetensors``.
        role: what the model is, for messages: "teacher", "student".

    Raises:
        UserError: if there is no path, the file cannot be read, or a weight is missing or of another shape.
    """
    if not path:
        raise UserError(f"the {role} has no weights: give the path or URL of its checkpoint")
    checkpointer = VerifyingCheckpointer(model)
    checkpointer.load(path, checkpointables=[])
    report = checkpointer.report
    if report.missing or report.reshaped:
        raise UserError(
            f"{path} is not a checkpoint of this {role} ({type(model).__name__}): {report}. Its config and its "
            "checkpoint have to be of one architecture, with the same number of classes"
        )
    logger.info("Weights of the %s from %s: %s", role, path, report)
    return report


def read_weights(path: str) -> dict[str, Tensor]:
    """Reads a checkpoint's weights without a model to put them into.

    Args:
        path: file or URL, any that Detectron2 reads, or ``.safetensors``.

    Raises:
        UserError: if the file cannot be read.
    """
    return read_checkpoint(path)["model"]


def read_checkpoint(path: str) -> dict[str, Any]:
    """Reads a checkpoint as :func:`read_weights` does.

    Returns:
        "model", the weights; where Detectron2 has to match their names by its heuristics, as those of torchvision,
        also "matching_heuristics", which is True then.
    """

    class Reader(VerifyingCheckpointer):
        def _load_model(self, checkpoint):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            self.contents = {"model": checkpoint["model"]}
            if checkpoint.get("matching_heuristics"):
                self.contents["matching_heuristics"] = True

    reader = Reader(nn.Module())
    reader.load(path, checkpointables=[])
    return reader.contents
