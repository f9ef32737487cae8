"""Checks that a data set and a model fit each other, before training starts."""

import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import detectron2.data.transforms as T
import numpy as np
from cankd.utils import UserError, target_of
from detectron2.config import instantiate
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf
from torch import nn
from tqdm import tqdm

from .annotation_checks import check_annotations
from .image_checks import check_images
from .records import dataset_names, describe_dataset

logger = logging.getLogger(__name__)

__all__ = [
    "check_classes",
    "check_crops",
    "check_image_classes",
    "check_masks",
    "check_records",
    "check_targets",
    "check_training_data",
    "num_classes_of",
]

_OF_YACS = "; in a yacs config it is MODEL.ROI_HEADS.NUM_CLASSES or MODEL.RETINANET.NUM_CLASSES"


def check_records(
    records: Sequence,
    dataset: DictConfig,
    mapper: Callable[[dict], dict],
    *,
    skip_broken: bool | None = False,
    read_all_images: bool = False,
) -> Sequence:
    """Makes sure that annotations and images can be used, as far as Detectron2's own mapper reads them.

    Args:
        records: in Detectron2's format. Those of classification are looked at only if one of the two options below is
            true: there are millions, and the mapper names what is broken.
        dataset: where they come from, in a config.
        mapper: of their loader.
        skip_broken: whether to go on without what is broken; None if all are needed, as they are to evaluate.
        read_all_images: whether images are read whole, and not their heads alone.

    Returns:
        The records, without what is left out.

    Raises:
        UserError: see there.
    """
    if not isinstance(records, list):
        return records
    source = describe_dataset(dataset)
    if any("label" in record for record in records[:1]):
        if not (skip_broken or read_all_images):
            return records
    elif type(mapper) is DatasetMapper:
        # Ids of several files may be the same: evaluation alone needs to tell the images apart by them.
        unique_ids = skip_broken is None or len(dataset_names(dataset)) == 1
        # Of an image to evaluate on, the mapper leaves the annotations out.
        mask_format = mapper.instance_mask_format if mapper.is_train else "bitmask"
        masks = mask_format if mapper.use_instance_mask else ""
        how = {"masks": masks, "unique_ids": unique_ids, "skip_broken": skip_broken}
        records = check_annotations(records, source, **how)
    elif skip_broken is None:
        return records  # what another mapper evaluates on need not be images
    return check_images(records, source, whole=read_all_images, skip_broken=skip_broken)


def num_classes_of(model: nn.Module) -> int | None:
    """Returns how many classes a detector or classifier predicts, None if it does not say."""
    return getattr(getattr(model, "roi_heads", model), "num_classes", None)


def check_training_data(records: Sequence, loader: DictConfig, student: nn.Module) -> None:
    """Makes sure that a training set and a student fit each other: classes, crops and targets.

    Args:
        records: in Detectron2's format.
        loader: ``dataloader.train`` of a config.
        student: is trained on them.

    Raises:
        UserError: if they do not.
    """
    check_classes(records, student, dataset_names(loader.dataset))
    check_crops(records, loader)
    check_targets(records, loader, student)


def check_classes(records: Sequence, student: nn.Module, names: Sequence[str] = ()) -> None:
    """Makes sure that the model can predict every class of the data.

    Args:
        records: in Detectron2's format.
        student: whose ``num_classes``, its own or its box head's, counts, and whose segmentation head, if it has one,
            is looked at by :func:`check_masks`. What has neither is not checked.
        names: of the data sets. If none has as many ``thing_classes`` as the model, a warning is logged.

    Raises:
        UserError: if an annotation, a label or a semantic mask has a class beyond the model's; if a mask is unusable.
    """
    if not isinstance(records, list):
        return
    segmentation_head = getattr(student, "sem_seg_head", None)
    if hasattr(segmentation_head, "predictor") and hasattr(segmentation_head, "ignore_value"):
        check_masks(records, segmentation_head)
    num_classes = num_classes_of(student)
    if num_classes is None:
        return
    found = {a["category_id"] for r in records for a in r.get("annotations", ()) if "category_id" in a}
    found |= {record["label"] for record in records if "label" in record}
    if found and max(found) >= num_classes:
        raise UserError(
            f"the data has {max(found) + 1} classes, but the model predicts {num_classes}: set num_classes in the "
            f"student's config (and in the teacher's, if it was trained on the same data){_OF_YACS}"
        )
    named = max((len(MetadataCatalog.get(name).get("thing_classes") or ()) for name in names), default=0)
    if 0 < named < num_classes:
        logger.warning(
            "The data has %d classes, and the model predicts %d: if it ever predicts one of the others, evaluation "
            "ends. Set num_classes in the student's config%s.",
            named,
            num_classes,
            _OF_YACS,
        )


def check_image_classes(data: Mapping, student: nn.Module) -> None:
    """Makes sure that data sets of classification number the same classes alike, and that the model has as many.

    Args:
        data: ``dataloader`` of a config, whose data sets have been loaded; those without ``image_classes`` are not
            looked at, nor is the test set if there is no evaluator.
        student: see :func:`num_classes_of`.

    Raises:
        UserError: if two data sets, or data sets and model, have different classes.
    """
    loaders = [data["train"] if "train" in data else {}, data["test"] if data.get("evaluator") is not None else {}]
    names = [name for loader in loaders if "dataset" in loader for name in dataset_names(loader["dataset"])]
    classes = {name: list(found) for name in names if (found := MetadataCatalog.get(name).get("image_classes"))}
    if not classes:
        return
    (first, expected), *others = classes.items()
    for name, found in others:
        if found != expected:
            i, pair = next(pair for pair in enumerate(itertools.zip_longest(expected, found)) if len({*pair[1]}) > 1)
            raise UserError(
                f"{first} has {len(expected)} classes and {name} {len(found)}, and class {i} is {pair[0]!r} in the one "
                f"and {pair[1]!r} in the other: images of both can be used together only if their folders have the "
                "same names"
            )
    if (num_classes := num_classes_of(student)) not in (None, len(expected)):
        raise UserError(
            f"{first} has {len(expected)} classes, but the model predicts {num_classes}: set num_classes in the "
            "student's config (and in the teacher's, if it was trained on the same data)"
        )


def check_targets(records: Sequence, loader: DictConfig, student: nn.Module) -> None:
    """Makes sure that a model of masks, keypoints or stuff gets them.

    Args:
        records: in Detectron2's format.
        loader: ``dataloader.train`` of a config, whose mapper is looked at if it is Detectron2's.
        student: whose box head and segmentation head count, if it has them.

    Raises:
        UserError: if the mapper leaves them out, or no record has them; if an object has another number of keypoints
            than the model predicts, or images are flipped and nothing says which keypoints change sides.
    """
    roi_heads, mapper = getattr(student, "roi_heads", None), loader.get("mapper")
    for predicts, option, key in (("mask_on", "use_instance_mask", "segmentation"), _KEYPOINTS):
        if not getattr(roi_heads, predicts, False):
            continue
        if _is_detectron2s(mapper) and not mapper.get(option):
            raise UserError(
                f"the model learns {key}s, but the data loader leaves them out: set dataloader.train.mapper."
                f"{option}=True, or take them out of the model"
            )
        if isinstance(records, list) and not any(key in a for r in records for a in r.get("annotations", ())):
            raise UserError(f"the model learns {key}s, but no annotation has any ({key!r}): take another data set")
    if getattr(roi_heads, "keypoint_on", False):
        _check_keypoints(records, mapper, roi_heads)
    if hasattr(student, "sem_seg_head") and _is_detectron2s(mapper) and isinstance(records, list):
        if lacking := [record["file_name"] for record in records if "sem_seg_file_name" not in record]:
            raise UserError(
                f"the model learns stuff, but {len(lacking)} of {len(records)} images have no semantic mask "
                f"(sem_seg_file_name), for example {lacking[0]}: register the data with masks, as "
                "detectron2.data.datasets.register_coco_panoptic_separated does"
            )


_KEYPOINTS = "keypoint_on", "use_keypoint", "keypoints"


def _check_keypoints(records, mapper, roi_heads):
    annotations = (a for r in records for a in r.get("annotations", ())) if isinstance(records, list) else ()
    found = next((len(a["keypoints"]) // 3 for a in annotations if "keypoints" in a), None)
    expected = getattr(roi_heads.keypoint_head, "num_keypoints", found)
    if found is not None and found != expected:
        raise UserError(
            f"an object of the data has {found} keypoints, but the model predicts {expected}: set num_keypoints of the "
            "student's keypoint_head (MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS of a yacs config)"
        )
    if not _is_detectron2s(mapper) or mapper.get("keypoint_hflip_indices") is not None:
        return
    if any(isinstance(a, T.RandomFlip) for a in map(instantiate, mapper.get("augmentations", ()))):
        raise UserError(
            "images are flipped, but nothing says which keypoints change sides: set dataloader.train.mapper."
            "keypoint_hflip_indices, as detectron2.data.detection_utils.create_keypoint_hflip_indices(dataset) gives "
            "them, or take the flip out of the mapper's augmentations"
        )


def _is_detectron2s(mapper):
    return target_of(mapper) is DatasetMapper  # a function has none


def check_crops(records: Sequence, loader: DictConfig) -> None:
    """Makes sure that crops of a fixed size fit into the images; Detectron2 would take smaller ones without a word.

    Args:
        records: in Detectron2's format; those that do not say their size are not checked.
        loader: ``dataloader.train`` of a config. Its augmentations are looked at as far as they only scale, by
            ``ResizeScale``, before they crop.

    Raises:
        UserError: if a crop is larger than an image may become.
    """
    scale, augmentations = None, getattr(loader.get("mapper"), "augmentations", None)
    for augmentation in map(instantiate, augmentations if OmegaConf.is_list(augmentations) else ()):
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
        raise UserError(
            f"{record['file_name']} is {size[0]}×{size[1]}{how}, but crops are {crop_size[0]}×{crop_size[1]}: make the "
            "crops smaller (crop_size), or the images larger"
        )


def check_masks(records: Sequence, head: nn.Module) -> None:
    """Reads the semantic masks of a data set and makes sure that a segmentation head can be trained on them.

    Of several processes the first alone reads; the others wait for what it finds.

    Args:
        records: in Detectron2's format, with "sem_seg_file_name".
        head: with ``predictor`` and ``ignore_value``.

    Raises:
        UserError: in every process, if the label to ignore is a class; if a mask cannot be read, is of another size
            than its image, or has a label that is neither a class nor ignored.
    """
    num_classes, ignored = head.predictor.out_channels, head.ignore_value
    if 0 <= ignored < num_classes:
        raise UserError(f"ignore_value is {ignored}, which is one of the {num_classes} classes: use 255")
    problem = _find_mask_problem(records, num_classes, ignored) if comm.is_main_process() else None
    if problem := comm.all_gather(problem)[0]:
        raise UserError(problem)


def _find_mask_problem(records, num_classes, ignored):
    """Returns what is wrong with the first mask that cannot be used, None if all can."""
    check = functools.partial(_describe_mask, num_classes=num_classes, ignored=ignored)
    with ThreadPoolExecutor() as pool:
        problems = pool.map(check, records)
        for problem in tqdm(problems, "Checking masks", len(records), unit="mask", leave=False, disable=None):
            if problem:
                pool.shutdown(cancel_futures=True)
                return problem


def _describe_mask(record, *, num_classes, ignored):
    """Returns what is wrong with a record's mask, None if it can be used."""
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
    if strange := set(np.bincount(mask.ravel()).nonzero()[0].tolist()) - {*range(num_classes), ignored}:
        return (
            f"{path} has the labels {sorted(strange)}; the model knows 0 to {num_classes - 1}, and {ignored} for "
            "what is to be ignored"
        )
