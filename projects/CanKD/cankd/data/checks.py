"""Loading a data set's records, and checking that they and a model fit each other before training starts."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import detectron2.data.transforms as T
import numpy as np
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

__all__ = ["check_classes", "check_crops", "check_masks", "load_records"]


def load_records(dataset: DictConfig) -> Sequence:
    """Loads the records of a data set and makes sure that its images exist.

    Args:
        dataset: lazy call of :func:`detectron2.data.get_detection_dataset_dicts`, or of anything that gives a list of
            records or a data set.

    Raises:
        ValueError: if the data set is not registered, its annotations are absent or unreadable, or images are missing.
    """
    names = dataset.get("names", ())
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in DatasetCatalog:
            raise ValueError(
                f"no data set is registered as {name!r}. Register it in the config, for example by "
                "detectron2.data.datasets.register_coco_instances(name, {}, json_file, image_root). Registered are: "
                f"{', '.join(sorted(DatasetCatalog))}"
            )
    files = [MetadataCatalog.get(name).get("json_file") for name in names]
    described = ", ".join(filter(None, files)) or ", ".join(names) or "the data set"
    try:
        records = instantiate(dataset)
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename or error} is absent; the data set {', '.join(names)} needs it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{described} is not JSON, or is cut off: {error}") from error
    except (AssertionError, KeyError, OSError, TypeError, ValueError) as error:
        wanted = "It has to be in COCO format, with lists of images, annotations and categories, and annotated images"
        raise ValueError(
            f"{described} cannot be used ({type(error).__name__}: {error}). {wanted if any(files) else ''}".strip()
        ) from error
    if isinstance(records, list):
        _check_images(records, described)
    return records


def _check_images(records, described):
    """Lists each folder once: asking for every file by itself takes minutes on a network file system."""
    wanted = defaultdict(set)
    for path in (record[key] for record in records for key in ("file_name", "sem_seg_file_name") if key in record):
        if "://" not in path:  # what is remote is fetched when it is read
            folder, name = os.path.split(path)
            wanted[folder].add(name)
    missing = []
    for folder, names in wanted.items():
        present = os.listdir(folder) if os.path.isdir(folder) else ()
        missing += [os.path.join(folder, name) for name in sorted(names.difference(present))]
    if missing:
        raise ValueError(
            f"{described} names {len(missing)} files that do not exist, for {len(records)} images; the first is "
            f"{missing[0]}. Check the image root"
        )


def check_classes(records: Sequence, student: nn.Module) -> None:
    """Makes sure that the model can predict every class of the data.

    Args:
        records: in Detectron2's format.
        student: whose ``num_classes``, its own or its box head's, counts, and whose segmentation head, if it has one,
            is looked at by :func:`check_masks`. What has neither is not checked.

    Raises:
        ValueError: if an annotation or a semantic mask has a class beyond the model's, or a mask cannot be used.
    """
    if not isinstance(records, list):
        return
    segmentation_head = getattr(student, "sem_seg_head", None)
    if hasattr(segmentation_head, "predictor") and hasattr(segmentation_head, "ignore_value"):
        check_masks(records, segmentation_head)
    num_classes = getattr(getattr(student, "roi_heads", student), "num_classes", None)
    if num_classes is None:
        return
    found = {a["category_id"] for r in records for a in r.get("annotations", ()) if "category_id" in a}
    if found and max(found) >= num_classes:
        raise ValueError(
            f"the data has {max(found) + 1} classes, but the model predicts {num_classes}: set num_classes in the "
            "student's config (and in the teacher's, if it was trained on the same data)"
        )


def check_crops(records: Sequence, loader: DictConfig) -> None:
    """Makes sure that crops of a fixed size fit into the images; Detectron2 would take smaller ones without a word.

    Args:
        records: in Detectron2's format; those that do not say their size are not checked.
        loader: ``dataloader.train`` of a config. Its augmentations are looked at as far as they only scale, by
            ``ResizeScale``, before they crop.

    Raises:
        ValueError: if a crop is larger than an image may become.
    """
    scale = None
    for augmentation in map(instantiate, loader.get("mapper", {}).get("augmentations", ())):
        if isinstance(augmentation, T.ResizeScale):
            scale = augmentation
            continue
        crop = getattr(augmentation, "crop_aug", augmentation)
        if not isinstance(crop, T.RandomCrop) or crop.crop_type != "absolute":
            return
        for record in records:
            if {"height", "width"} <= record.keys():
                _check_crop(record, scale, tuple(crop.crop_size))
        return


def _check_crop(record, scale, crop_size):
    size, how = (record["height"], record["width"]), ""
    if scale:
        targets = scale.target_height, scale.target_width
        factor = scale.min_scale * min(target / side for target, side in zip(targets, size))
        size, how = tuple(round(side * factor) for side in size), " at its smallest"
    if any(wanted > side for wanted, side in zip(crop_size, size)):
        raise ValueError(
            f"{record['file_name']} is {size[0]}×{size[1]}{how}, but crops are {crop_size[0]}×{crop_size[1]}: make the "
            "crops smaller (crop_size), or the images larger"
        )


def check_masks(records: Sequence, head: nn.Module) -> None:
    """Reads the semantic masks of a data set and makes sure that a segmentation head can be trained on them.

    Args:
        records: in Detectron2's format, with "sem_seg_file_name".
        head: with ``predictor`` and ``ignore_value``.

    Raises:
        ValueError: if the label to ignore is a class; if a mask cannot be read, is of another size than its image, or
            has a label that is neither a class nor ignored.
    """
    num_classes, ignored = head.predictor.out_channels, head.ignore_value
    if 0 <= ignored < num_classes:
        raise ValueError(f"ignore_value is {ignored}, which is one of the {num_classes} classes: use 255")
    allowed = {*range(num_classes), ignored}

    def find_problem(record):
        path = record.get("sem_seg_file_name")
        if path is None:
            panoptic = "pan_seg_file_name" in record
            return None if panoptic else f"{record['file_name']} has no semantic mask (sem_seg_file_name)"
        mask = cv2.imread(PathManager.get_local_path(path), cv2.IMREAD_UNCHANGED)
        if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
            return f"{path} is not a PNG of one channel with 8 bits, or cannot be read"
        size = record.get("height", mask.shape[0]), record.get("width", mask.shape[1])
        if mask.shape != size:
            return f"{path} is {mask.shape[0]}×{mask.shape[1]}, but its image is {size[0]}×{size[1]}"
        if strange := set(np.bincount(mask.ravel()).nonzero()[0].tolist()) - allowed:
            return (
                f"{path} has the labels {sorted(strange)}; the model knows 0 to {num_classes - 1}, and {ignored} for "
                "what is to be ignored"
            )

    with ThreadPoolExecutor() as pool:
        problems = pool.map(find_problem, records)
        for problem in tqdm(problems, "Checking masks", len(records), unit="mask", leave=False, disable=None):
            if problem:
                pool.shutdown(cancel_futures=True)
                raise ValueError(problem)
