"""Checks of annotations before training: one line a kind of fault, with its number and the first example."""

import logging
import math
import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from cankd.utils import UserError
from detectron2.structures import BoxMode

__all__ = ["check_annotations", "has_broken_crowd_mark", "without_broken_shapes"]

logger = logging.getLogger(__name__)

_TOLERANCE = 0.02  # of an image's side: how far rounding may put a box outside
_NUMBERS = {BoxMode.XYXY_ABS: 4, BoxMode.XYWH_ABS: 4, BoxMode.XYWHA_ABS: 5}


class _Fault(NamedTuple):
    kind: str
    example: str
    record: int
    annotation: int | None = None  # None: the whole record


def check_annotations(
    records: Sequence[Mapping],
    source: str,
    *,
    masks: str = "",
    unique_ids: bool = True,
    skip_broken: bool | None = False,
) -> Sequence[Mapping]:
    """Makes sure that the annotations of a data set can be used by Detectron2's mapper.

    A box without an area is no fault: the mapper leaves it out. COCO has some.

    Args:
        records: in Detectron2's format.
        source: what to call the data set: its annotation file, or its name.
        masks: the mapper's ``instance_mask_format``, "polygon" or "bitmask", if it reads masks.
        unique_ids: whether an image's id may stand only once, as within one annotation file.
        skip_broken: whether to go on without what is broken, and log how much that is; None if all are needed.

    Returns:
        The records; if something is left out, others without it.

    Raises:
        UserError: if an annotation or an image is broken and not to be skipped. Also if the boxes of the whole data
            set are written in another way than it says, which no skipping mends.
    """
    _check_format(records, source)
    faults = list(_find_faults(records, masks, unique_ids))
    if not faults:
        return records
    lines = "\n  ".join(_describe(faults))
    if not skip_broken:
        is_of_use = skip_broken is not None and any(record.get("annotations") for record in _leave_out(records, faults))
        or_skip = ", or go on without them by train.skip_broken=True" if is_of_use else ""
        raise UserError(f"{source} has annotations that cannot be used:\n  {lines}\nMend them{or_skip}")
    logger.warning("%s is used without what is broken:\n  %s", source, lines)
    return _leave_out(records, faults)


def _describe(faults):
    """Yields a line a kind of fault."""
    by_kind = defaultdict(list)
    for fault in faults:
        by_kind[fault.kind].append(fault.example)
    for kind, examples in by_kind.items():
        yield f"{kind}: {len(examples)}, the first is {examples[0]}"


def _leave_out(records, faults):
    whole = {fault.record for fault in faults if fault.annotation is None}
    parts = defaultdict(set)
    for fault in faults:
        parts[fault.record].add(fault.annotation)
    kept = []
    for i, record in enumerate(records):
        if i in parts and i not in whole:
            sound = [a for j, a in enumerate(record["annotations"]) if j not in parts[i]]
            record = {**record, "annotations": sound}
        if i not in whole:
            kept.append(record)
    return kept


def _find_faults(records, masks, unique_ids) -> Iterator[_Fault]:
    places = {}
    for i, record in enumerate(records):
        name = record.get("file_name", f"record {i}")
        key = record.get("image_id", name)
        if unique_ids and key in places:
            yield _Fault("image ids that stand twice", f"{key} ({places[key]} and {name})", i)
        places.setdefault(key, name)
        if strange := [record[side] for side in ("width", "height") if not _is_side(record.get(side, 1))]:
            yield _Fault("images whose width or height is no positive number", f"{strange[0]!r:.60} of {name}", i)
            continue
        size = record.get("width", math.inf), record.get("height", math.inf)
        for j, annotation in enumerate(record.get("annotations", ())):
            fault = _category_fault(annotation) or _box_fault(annotation, size) or _keypoint_fault(annotation)
            fault = fault or _crowd_fault(annotation) or (masks and _mask_fault(annotation, size, masks)) or None
            if fault:
                kind, value = fault
                yield _Fault(kind, f"{value} in {name}, annotation {annotation.get('id', j)}", i, j)


def _is_side(value):
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value < math.inf


def _category_fault(annotation):
    category = annotation.get("category_id")
    if not isinstance(category, Integral) or category < 0:
        return "classes that are no number from 0 on (category_id)", repr(category)


def has_broken_crowd_mark(annotation: Mapping) -> bool:
    """Tells whether an annotation does not say clearly if it is of a crowd."""
    return annotation.get("iscrowd", 0) not in (0, 1)


def _crowd_fault(annotation):
    if has_broken_crowd_mark(annotation):
        return "marks of a crowd that are not 0 or 1 (iscrowd)", repr(annotation["iscrowd"])


def _box_fault(annotation, size):
    box, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    if box is None:
        return "annotations without a box (bbox)", repr(None)
    if mode not in _NUMBERS:
        return "boxes of another mode than XYXY_ABS, XYWH_ABS or XYWHA_ABS (bbox_mode)", repr(mode)
    if not _are_numbers(box) or len(box) != _NUMBERS[mode]:
        return f"boxes that are not {_NUMBERS[mode]} numbers", str(box)
    if not all(map(math.isfinite, box)):
        return "boxes with NaN or infinity", str(list(box))
    if mode == BoxMode.XYWHA_ABS:
        return None
    x0, y0, x1, y1 = _corners(box, mode)
    if x1 < x0 or y1 < y0:
        return "boxes of negative size", str(list(box))
    slack = [_TOLERANCE * side + 1 for side in size]
    if x0 < -slack[0] or y0 < -slack[1] or x1 > size[0] + slack[0] or y1 > size[1] + slack[1]:
        return "boxes outside the image", f"{list(box)} of {size[0]}×{size[1]} pixels"


def _corners(box, mode):
    x, y, *rest = box
    return (x, y, x + rest[0], y + rest[1]) if mode == BoxMode.XYWH_ABS else box


def _keypoint_fault(annotation):
    keypoints = annotation.get("keypoints")
    if keypoints is None:
        return None
    if not _are_numbers(keypoints) or len(keypoints) % 3 or not all(map(math.isfinite, keypoints)):
        return "keypoints that are no triples of finite numbers (x, y, visibility)", str(keypoints)[:60]
    return None


def _are_numbers(values):
    return isinstance(values, (list, tuple, np.ndarray)) and all(isinstance(value, Real) for value in values)


def without_broken_shapes(annotation: Mapping, width: int, height: int) -> dict:
    """Returns an annotation without its mask and its keypoints if they are broken, as in data for boxes alone.

    Args:
        annotation: in Detectron2's format.
        width, height: of its image.
    """
    faults = {
        "segmentation": _mask_fault(annotation, (width, height), "bitmask"),
        "keypoints": _keypoint_fault(annotation),
    }
    return {key: value for key, value in annotation.items() if not faults.get(key)}


def _mask_fault(annotation, size, mask_format):
    mask = annotation.get("segmentation")
    if mask is None:
        return (
            "annotations without a mask (segmentation); a model of boxes alone needs none "
            "(dataloader.train.mapper.use_instance_mask=False, of yacs MODEL.MASK_ON=False)"
        ), repr(None)
    if isinstance(mask, Mapping):
        if mask_format == "polygon" and not annotation.get("iscrowd"):
            kind = "RLE masks, where dataloader.train.mapper.instance_mask_format is 'polygon' (set it to 'bitmask')"
            return kind, f"{mask.get('counts')!s:.60}"
        return _rle_fault(mask, size)
    polygons = mask if isinstance(mask, (list, tuple)) else [mask]
    if not polygons:
        return "masks without a polygon", "[]"
    for polygon in polygons:
        if not _are_numbers(polygon) or len(polygon) < 6 or len(polygon) % 2 or not all(map(math.isfinite, polygon)):
            return "polygons that are not three or more pairs of finite numbers", str(polygon)[:60]
        # A corner a little outside is common; to one far away pycocotools would walk pixel by pixel.
        if not all(-size[i % 2] <= value <= 2 * size[i % 2] for i, value in enumerate(polygon)):
            return "polygons far outside the image", f"{str(polygon)[:60]} of {size[0]}×{size[1]} pixels"


def _rle_fault(mask, size):
    try:
        height, width = mask["size"]
    except (KeyError, TypeError, ValueError):
        return "RLE masks without a height and a width", f"size {mask.get('size')!r:.60}"
    if (width, height) != size and math.inf not in size:
        return "RLE masks of another size than the image", f"{width}×{height} instead of {size[0]}×{size[1]}"
    try:
        runs = _run_lengths(mask["counts"])
        sound = sum(runs) == height * width and min(runs) >= 0
    except (TypeError, ValueError, KeyError, IndexError):
        sound = False
    if not sound:
        return "RLE masks that cannot be decoded", str(mask.get("counts"))[:60]


def _run_lengths(counts):
    """Returns the lengths of an RLE mask's runs, which pycocotools reads without comparing them with the size.

    In a text each is a number of five bits a character, the lowest first; from the fourth on, its difference to the one
    before last.
    """
    if not isinstance(counts, (str, bytes)):
        return [operator.index(length) for length in counts]
    runs, characters = [], iter(counts.encode() if isinstance(counts, str) else counts)
    for character in characters:
        length, bits = 0, 0
        while True:
            length |= (character - 48 & 31) << bits
            bits += 5
            if not character - 48 & 32:
                break
            character = next(characters, 48)
        if character - 48 & 16:
            length -= 1 << bits
        runs.append(length + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _check_format(records, source):
    """Looks for what all boxes together give away."""
    boxes, sizes = _plain_boxes(records)
    if not len(boxes):
        return
    if boxes.min() >= 0 and boxes.max() <= 1 and sizes.min() > 1:
        raise UserError(
            f"all {len(boxes)} boxes of {source} are within 0 and 1, the first is {boxes[0].tolist()}: they seem to be "
            "shares of the image's size, and pixels are expected. Multiply them by width and height"
        )
    beyond = (boxes[:, :2] + boxes[:, 2:] > sizes * (1 + _TOLERANCE) + 1).any(1)
    as_corners = ((boxes[:, 2:] >= boxes[:, :2]) & (boxes[:, 2:] <= sizes * (1 + _TOLERANCE) + 1)).all()
    if beyond.any() and as_corners:
        raise UserError(
            f"{beyond.sum()} of the {len(boxes)} boxes of {source} leave their images if they are read as x, y, width, "
            f"height, and none if they are read as two corners; the first is {boxes[beyond][0].tolist()}. They seem to "
            "be corners: write x1, y1, x2 - x1, y2 - y1 (bbox_mode is XYWH_ABS)"
        )


def _plain_boxes(records):
    """Returns the boxes given as x, y, width, height, and their images' sizes; none if one of them is unusable."""
    boxes, sizes = [], []
    for record in records:
        for annotation in record.get("annotations", ()):
            if annotation.get("bbox_mode") == BoxMode.XYWH_ABS and "width" in record and "height" in record:
                boxes.append(annotation.get("bbox"))
                sizes.append((record["width"], record["height"]))
    try:
        boxes, sizes = np.array(boxes, float).reshape(-1, 4), np.array(sizes, float).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        return np.empty((0, 4)), np.empty((0, 2))
    finite = np.isfinite(boxes).all(1)
    return boxes[finite], sizes[finite]
