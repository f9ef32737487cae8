"""Pictures of data sets and of what models make of them."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import cv2
import torch
from cankd.modeling import load_all_weights
from cankd.visualization import draw_annotations, draw_detections, draw_segmentation, save_grid
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from .data_checks import load_records
from .training import with_image_format

__all__ = ["draw_comparison", "draw_data", "draw_predictions"]

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
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


def draw_predictions(
    config: DictConfig, path: str, *, baseline: str = "", inputs: Sequence[str] = (), images: int = 4
) -> None:
    """Draws what a config's models predict, side by side: the student (``train.init_checkpoint``) and its teacher.

    Args:
        config: of a distiller or of a plain model.
        path: PNG file to write.
        baseline: checkpoint of the same student, trained alone, to draw beside it.
        inputs: image files, and folders of them; the first images of the test set if there are none.
        images: how many of the test set.

    Raises:
        ValueError: if a checkpoint or an image is missing, or there is nothing to draw.
    """
    dataset = config.dataloader.test.dataset
    if inputs:
        records, metadata = _list_images(inputs), _metadata(dataset)
        if not (metadata.get("thing_classes") or metadata.get("stuff_classes")):
            load_records(dataset)  # which names the classes
    else:
        records = load_records(dataset)[:images]
    if not records:
        raise ValueError(f"there is nothing to draw: images is {images}")
    student, checkpoint = config.model.get("student", config.model), config.train.init_checkpoint
    if student is config.model:
        if baseline:
            raise ValueError("this config describes one model, drawn from train.init_checkpoint: leave --baseline out")
        checkpoints = {"model": checkpoint}
    else:
        checkpoints = {"student": baseline, "distilled student": checkpoint}
    models = {}
    for title, path_or_url in checkpoints.items():
        if path_or_url:
            models[title] = instantiate(student)
            option = "--baseline" if title == "student" else "train.init_checkpoint"
            load_all_weights(models[title], path_or_url, f"{title} ({option})")
    formats = {}
    if "teacher" in config.model:
        teacher = instantiate(config.model.teacher)
        models["teacher"], formats["teacher"] = teacher.model, teacher.input_format
    if not models:
        raise ValueError("there is no model to draw: give a checkpoint by train.init_checkpoint=FILE")
    models = {title: model.to(config.train.device) for title, model in models.items()}
    draw_comparison(models, config.dataloader.test, records, path, formats)


def _list_images(inputs):
    files = []
    for entry in inputs:
        if os.path.isdir(entry):
            files += [os.path.join(entry, name) for name in sorted(os.listdir(entry)) if name.lower().endswith(IMAGES)]
        elif os.path.isfile(entry):
            files.append(entry)
        else:
            raise ValueError(f"there is no image or folder {entry}")
    if not files:
        raise ValueError(f"there is no image ({', '.join(IMAGES)}) in {', '.join(inputs)}")
    return [{"file_name": file} for file in files]


@torch.no_grad()
def draw_comparison(
    models: Mapping[str, nn.Module],
    loader: DictConfig,
    records: Sequence[dict],
    path: str,
    input_formats: Mapping[str, str | None] = MappingProxyType({}),
) -> None:
    """Draws what several models make of images, and the ground truth where there is one, side by side.

    Args:
        models: map from title to model: detectors, or segmentors, before which the image itself is drawn.
        loader: lazy call with ``dataset.names`` and ``mapper``, as ``dataloader.test``.
        records: the images, in Detectron2's format.
        path: PNG file to write.
        input_formats: channel order, "BGR" or "RGB", of models that want another than the mapper's, by title.
    """
    metadata = _metadata(loader.dataset)
    mappers = {title: instantiate(with_image_format(loader, input_formats.get(title)).mapper) for title in models}
    has_masks = any(hasattr(model, "sem_seg_head") for model in models.values())
    columns = defaultdict(list)
    for record in tqdm(records, "Drawing", unit="image", leave=False, disable=None):
        image, scale = _read(record)
        if has_masks:
            columns["image"].append(cv2.resize(image, None, fx=scale, fy=scale))
        for title, model in models.items():
            output = model.eval()([mappers[title](record)])[0]
            if "sem_seg" in output:
                labels = output["sem_seg"].argmax(dim=0).cpu().numpy()
                columns[title].append(draw_segmentation(image, labels, metadata, scale=scale))
            else:
                columns[title].append(draw_detections(image, output["instances"], metadata, scale=scale))
        if has_masks and "sem_seg_file_name" in record:
            labels = read_image(record["sem_seg_file_name"]).squeeze()
            columns["ground truth"].append(draw_segmentation(image, labels, metadata, scale=scale))
        elif "annotations" in record:
            columns["ground truth"].append(draw_annotations(image, record["annotations"], metadata, scale=scale))
    save_grid(path, list(zip(*columns.values())), list(columns))


def _metadata(dataset):
    names = dataset.names
    return MetadataCatalog.get(names if isinstance(names, str) else names[0])


def _read(record):
    """Returns a record's RGB image and by how much to enlarge it."""
    image = read_image(record["file_name"], "RGB")
    return image, max(1.0, SIDE / min(image.shape[:2]))
