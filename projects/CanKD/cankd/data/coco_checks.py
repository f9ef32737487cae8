"""Checks of annotations in COCO's format that an evaluator reads by itself, and not as records."""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real

from cankd.utils import UserError

__all__ = ["check_coco", "check_keypoints", "complete_keypoints"]

logger = logging.getLogger(__name__)


def check_coco(contents: Mapping, source: str) -> None:
    """Makes sure that ids, names and areas of an annotation file are of the right kind.

    Evaluators stumble over what is not, or count it wrongly. The boxes are left to :func:`check_annotations`. What may
    be left out, areas and all annotations, is warned of.

    Args:
        contents: of the file.
        source: what to call it.

    Raises:
        UserError: if one is not.
    """
    for part in ("images", "annotations", "categories"):
        _check(source, contents, part, "id", "a whole number", _is_whole)
        _check_uniqueness(source, contents, part)
    _check(source, contents, "categories", "name", "a text", lambda value: isinstance(value, str))
    # Annotations of other images are let pass: evaluators leave them out, and Detectron2 counts them in the log.
    _check(source, contents, "annotations", "image_id", "a whole number", _is_whole)
    _check(source, contents, "annotations", "area", "a number, at least 0", _is_area, default=0)
    if "annotations" in contents:
        _check_areas(source, contents)
    else:
        logger.warning("%s has no annotations: predictions are written, and nothing is evaluated", source)


def check_keypoints(contents: Mapping, source: str) -> None:
    """Makes sure that all annotated objects have the same keypoints; those without any are let pass.

    Args:
        contents: of an annotation file.
        source: what to call it.

    Raises:
        UserError: if one has others: x, y and visibility of each are numbers in a list.
    """
    found = [annotation["keypoints"] for annotation in contents.get("annotations", ()) if annotation.get("keypoints")]
    lengths = Counter(len(keypoints) if isinstance(keypoints, list) else 0 for keypoints in found)
    if len(lengths) > 1 or any(length % 3 or not length for length in lengths):
        numbers = ", ".join(f"{times} with {length}" for length, times in sorted(lengths.items()))
        raise UserError(
            f"{source} has 'keypoints' of other lengths ({numbers} numbers): each object needs x, y and visibility of "
            "every keypoint, 0 for those that are not annotated"
        )


def complete_keypoints(annotations: Sequence[dict], length: int) -> None:
    """Adds what pycocotools reads of each object and files may leave out; objects without keypoints do not count.

    Args:
        annotations: of a file; are changed in place.
        length: of an object's list of keypoints.
    """
    for annotation in annotations:
        keypoints = annotation.get("keypoints") or [0] * length
        annotation["keypoints"] = keypoints
        annotation.setdefault("num_keypoints", sum(visibility > 0 for visibility in keypoints[2::3]))
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", math.prod(annotation["bbox"][2:]) if "bbox" in annotation else 0)


def _is_whole(value):
    return type(value) is int


def _is_area(value):
    return isinstance(value, Real) and math.isfinite(value) and value >= 0


def _check_areas(source, contents):
    annotations = contents["annotations"]
    pixels = {
        image["id"]: image.get("width", math.inf) * image.get("height", math.inf)
        for image in contents.get("images", ())
    }
    for annotation in annotations:
        if annotation.get("area", 0) > 1.1 * pixels.get(annotation["image_id"], math.inf):
            raise UserError(
                f"{source} has an annotation, {annotation['id']}, whose 'area' is {annotation['area']}, and its image "
                f"has {pixels[annotation['image_id']]} pixels"
            )
    if without := sum("area" not in annotation for annotation in annotations):
        logger.warning(
            "%s: %d of %d annotations have no 'area'; they count as small", source, without, len(annotations)
        )


def _check_uniqueness(source, contents, part):
    count = Counter(entry["id"] for entry in contents.get(part, ()))
    if twice := [value for value, times in count.items() if times > 1]:
        raise UserError(f"{source} has the id {twice[0]} in {part!r} twice: each has to have its own")


def _check(source, contents, part, key, expected, accepts, default=None):
    entries = contents.get(part, ())
    if not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{source} has entries in {part!r} that are no objects")
    broken = [value for entry in entries if not accepts(value := entry.get(key, default))]
    if broken:
        raise UserError(
            f"{source} has {len(broken)} of {len(entries)} {part} whose {key!r} is not {expected}, which evaluation "
            f"needs; the first is {str(broken[0])[:60]}"
        )
