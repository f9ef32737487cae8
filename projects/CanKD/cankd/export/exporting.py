import os
import tempfile
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from cankd.data import load_records, naming_broken_image
from cankd.engine import build_mapper, load_student, read_format, test_data
from cankd.utils import UserError, make_output_dir
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from .agreement import Agreement
from .exported_model import ExportedModel, write_exported
from .predictions import predict_tensors

__all__ = ["export_model"]


def export_model(
    config: DictConfig, path: str, *, format: str, size: tuple[int, int] | None = None, images: int = 20
) -> tuple[str, Agreement]:
    """Exports the student of a config, or its only model, and checks the file against it on images of the test set.

    Args:
        config: with the checkpoint in ``train.init_checkpoint``.
        path: of the file.
        format: "torchscript" or "onnx".
        size: height and width of the input, in pixels; those of the first test image, resized as the config says, if
            not given.
        images: of the test set, for the check. Larger ones are made smaller, smaller ones padded.

    Returns:
        What goes into the file and what comes out, in one line, and how far it agrees with the model. Only where it
        does, or is not checked, the file is written.

    Raises:
        UserError: if the checkpoint does not fit, there are no images, or the model cannot be exported.
    """
    if images < 1 and size is None:
        raise UserError("without test images nothing says the size of the input: give it by --size")
    make_output_dir(os.path.dirname(path))
    model = load_student(config, config.train.init_checkpoint, "student (train.init_checkpoint)").cpu().eval()
    inputs = _read_images(test_data(config), images) if images > 0 else []
    height, width = size or inputs[0].shape[1:]
    fill = getattr(model, "pixel_mean", torch.zeros(3, 1, 1))
    inputs = [_fit(image, (height, width), fill) for image in inputs]
    example = inputs[0] if inputs else fill.expand(3, height, width).contiguous()
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path) or ".", prefix=".exporting_") as folder:
        draft = os.path.join(folder, os.path.basename(path))
        names = write_exported(model, example, draft, format=format)
        agreement = _compare(model, ExportedModel(draft, format=format, names=names), inputs)
        if agreement.holds or not inputs:
            os.replace(draft, path)
    order = read_format(config.dataloader.get("test") or {}) or "the model's channel order"
    described = f"image (3, {height}, {width}), float32 from 0 to 255, {order} -> {', '.join(names)}"
    return described, agreement


def _read_images(loader: DictConfig, count: int) -> list[Tensor]:
    """Returns the first test images as the config's mapper gives them."""
    records, mapper = load_records(loader.dataset)[:count], build_mapper(loader.mapper)
    if not records:
        raise UserError("the test set is empty: give --size and --check 0")
    images = []
    for record in records:
        with naming_broken_image(record["file_name"]):
            images.append(mapper(record)["image"].float())
    return images


def _fit(image, size, fill):
    """Makes an image as small as needed, and pads it below and to the right, as Detectron2 does."""
    scale = min(1, *(wanted / own for wanted, own in zip(size, image.shape[1:])))
    if scale < 1:
        smaller = [round(scale * side) for side in image.shape[1:]]
        image = F.interpolate(image[None], smaller, mode="bilinear", antialias=True)[0]
    canvas = fill.expand(3, *size).clone()
    canvas[:, : image.shape[1], : image.shape[2]] = image
    return canvas


def _compare(model: nn.Module, exported: ExportedModel, images: Sequence[Tensor]) -> Agreement:
    agreement = Agreement()
    for image in tqdm(images, "Checking", unit="image", leave=False, disable=None):
        with torch.no_grad():
            expected = predict_tensors(model, {"image": image})
        agreement.add(expected, exported(image))
    return agreement
