"""Pictures of data sets and of what models make of them."""

from collections.abc import Mapping, Sequence

import torch
from cankd.visualization import draw_annotations, draw_detections, save_grid
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from omegaconf import DictConfig
from torch import nn

from .preflight import load_records

__all__ = ["draw_comparison", "draw_data"]

SIDE = 480  # of a drawn image's shorter side, at least: smaller ones are enlarged so that labels stay readable


def draw_data(dataset: DictConfig, path: str, *, images: int = 8, columns: int = 4) -> None:
    """Draws the first images of a data set with their annotated boxes.

    Args:
        dataset: lazy call with ``names``, as in ``dataloader.test.dataset``.
        path: PNG file to write.
        images: how many.
        columns: how many in a row.

    Raises:
        ValueError: if the data set cannot be read.
    """
    metadata = _metadata(dataset)
    pictures = []
    for record in load_records(dataset)[:images]:
        image, scale = _read(record)
        pictures.append(draw_annotations(image, record.get("annotations", ()), metadata, scale=scale))
    save_grid(path, [pictures[i : i + columns] for i in range(0, len(pictures), columns)])


@torch.no_grad()
def draw_comparison(models: Mapping[str, nn.Module], loader: DictConfig, records: Sequence[dict], path: str) -> None:
    """Draws the detections of several models and the ground truth side by side, one image a row.

    Args:
        models: map from title to model.
        loader: lazy call with ``dataset.names`` and ``mapper``, as ``dataloader.test``.
        records: the images, in Detectron2's format.
        path: PNG file to write.
    """
    metadata = _metadata(loader.dataset)
    mapper = instantiate(loader.mapper)
    rows = []
    for record in records:
        image, scale = _read(record)
        found = [model.eval()([mapper(record)])[0]["instances"] for model in models.values()]
        row = [draw_detections(image, instances, metadata, scale=scale) for instances in found]
        rows.append([*row, draw_annotations(image, record.get("annotations", ()), metadata, scale=scale)])
    save_grid(path, rows, [*models, "ground truth"])


def _metadata(dataset):
    names = dataset.names
    return MetadataCatalog.get(names if isinstance(names, str) else names[0])


def _read(record):
    """Returns a record's RGB image and by how much to enlarge it."""
    image = read_image(record["file_name"], "RGB")
    return image, max(1.0, SIDE / min(image.shape[:2]))
