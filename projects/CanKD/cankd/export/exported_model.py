import contextlib
import importlib
import io
import os
import textwrap
import warnings
from collections.abc import Iterator, Sequence

import torch
from cankd.utils import UserError, replace_file
from detectron2.export import TracingAdapter
from torch import Tensor, nn

from .predictions import predict_tensors

__all__ = ["FORMATS", "ExportedModel", "write_exported"]

FORMATS = ("torchscript", "onnx")


def write_exported(model: nn.Module, image: Tensor, path: str, *, format: str) -> list[str]:
    """Writes a model as TorchScript or ONNX, for one image of one size.

    Args:
        model: in evaluation mode, on the CPU. What it gives is described in :func:`predict_tensors`.
        image: an example, ``(3, H, W)`` in float32.
        path: of the file.
        format: "torchscript" or "onnx".

    Returns:
        The names of the outputs, in their order.

    Raises:
        UserError: if the model cannot be exported.
    """
    contents = io.BytesIO()
    adapter = TracingAdapter(model, ({"image": image},), predict_tensors).eval()  # the exporter puts its mode back
    try:
        with warnings.catch_warnings(), _closed_stdout():
            warnings.simplefilter("ignore")  # tracing warns of each constant, and the check finds what matters
            if format == "onnx":
                _write_onnx(adapter, contents)
            else:
                torch.jit.save(torch.jit.trace(adapter, (image,), check_trace=False), contents)
    except UserError:
        raise
    except Exception as error:  # any operator of a user's model may lack a counterpart, in any way
        others = " or ".join(other for other in FORMATS if other != format)
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        name, kind = type(model).__name__, type(error).__name__
        raise UserError(f"{name} cannot be exported as {format}; {others} may work ({kind}: {reason})") from error
    with replace_file(path) as f:
        f.write(contents.getbuffer())
    return list(adapter.outputs_schema.keys)


def _write_onnx(adapter, contents):
    _import_for_onnx("onnx")
    with torch.no_grad():
        adapter(*adapter.flattened_inputs)  # which names the outputs
    names = {"input_names": ["image"], "output_names": adapter.outputs_schema.keys}
    # The newer exporter fails on Detectron2's detectors.
    torch.onnx.export(adapter, adapter.flattened_inputs, contents, dynamo=False, **names)


@contextlib.contextmanager
def _closed_stdout() -> Iterator[None]:
    """Hides the thousands of lines that the ONNX exporter's C++ prints when it fails."""
    stdout = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def _import_for_onnx(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"ONNX needs {name}, which cannot be imported: pip install onnx onnxruntime") from error


class ExportedModel:
    """A file that :func:`write_exported` wrote, run without the model that it was made of."""

    def __init__(self, path: str, *, format: str, names: Sequence[str]):
        """
        Args:
            path: of the file.
            format: "torchscript" or "onnx", which ``onnxruntime`` runs.
            names: of the outputs, in their order.

        Raises:
            UserError: if the file cannot be loaded.
        """
        self._names = names
        self._is_onnx = format == "onnx"
        if not self._is_onnx:
            self._model = torch.jit.load(path)
            return
        runtime = _import_for_onnx("onnxruntime")
        try:
            self._model = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # of types that onnxruntime does not publish
            raise UserError(f"onnxruntime cannot load {path}; torchscript may work ({error})") from error

    @torch.no_grad()
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Returns the predictions for an image ``(3, H, W)`` of the size of the example, by name."""
        if self._is_onnx:
            outputs = map(torch.from_numpy, self._model.run(None, {"image": image.numpy()}))
        else:
            outputs = self._model(image)
        return dict(zip(self._names, outputs))
