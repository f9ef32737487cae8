"""Broken annotation files in COCO's format, and which of them may be accepted all the same."""

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real

from hypothesis import strategies

__all__ = ["broken_files", "is_harmless", "mutations"]

_REMOVED, _TWICE = object(), object()
_REPLACEMENTS = {
    "removed": _REMOVED,
    "twice": _TWICE,
    "null": None,
    "a string": "x",
    "an empty string": "",
    "a number as a string": "1",
    "true": True,
    "NaN": math.nan,
    "infinity": math.inf,
    "huge": 10**30,
    "negative": -7,
    "zero": 0,
    "a fraction": 0.5,
    "an empty list": [],
    "an empty object": {},
    "nested": [[{"x": [1]}]],
}


def _paths(contents) -> Iterator[tuple]:
    """Yields the places of a file: each key of the whole, and of the first of each list."""
    for key, value in contents.items():
        yield (key,)
        if isinstance(value, list):
            yield key, 0
            yield from ((key, 0, name) for name in value[0])
    yield from (("annotations", 0, "bbox", i) for i in range(4))
    yield from (("annotations", 0, "segmentation", *path) for path in ((0,), (0, 0)))


def _replace(contents, path, value):
    *parents, last = path
    for key in parents:
        contents = contents[key]
    if value is _REMOVED:
        del contents[last]
    elif value is _TWICE:
        if isinstance(contents, list):
            contents.append(copy.deepcopy(contents[last]))
        elif isinstance(contents[last], list):
            contents[last] *= 2
        else:
            contents[last] = [contents[last]] * 2
    else:
        contents[last] = copy.deepcopy(value)


def _mutate(contents, path, value):
    mutated = copy.deepcopy(contents)
    _replace(mutated, path, value)
    return json.dumps(mutated)


def broken_files(contents: Mapping) -> Iterator[tuple[str, str]]:
    """Yields names and texts of files that are broken in one place, in each in every way.

    Args:
        contents: a sound file's.
    """
    text = json.dumps(contents)
    for path in _paths(contents):
        for name, value in _REPLACEMENTS.items():
            yield f"{'.'.join(map(str, path))}: {name}", _mutate(contents, path, value)
    first = contents["annotations"][0]
    size = [contents["images"][0][key] for key in ("height", "width")]
    for name, key, value in (
        ("a polygon of two points", "segmentation", [[1, 1, 5, 5]]),
        ("RLE of another size", "segmentation", {"size": [3, 3], "counts": [4, 5]}),
        ("RLE that is too short", "segmentation", {"size": size, "counts": [1, 2]}),
        ("RLE that is no RLE", "segmentation", {"size": size, "counts": "zzzz"}),
        ("a negative size", "bbox", [20, 20, -5, 5]),
        ("outside the image", "bbox", [500, 500, 5, 5]),
        ("corners", "bbox", [30, 30, 60, 60]),
        ("an image that is not there", "image_id", 12345),
        ("a class that is not there", "category_id", 999),
    ):
        yield name, json.dumps({**contents, "annotations": [{**first, key: value}, *contents["annotations"][1:]]})
    yield "cut off", text[: len(text) // 2]
    yield "empty", ""
    yield "no JSON", "hello"
    yield "a list", "[]"
    yield "a number", "1"
    yield "deeply nested", "[" * 100_000
    yield "a mark of the byte order", "\ufeff" + text
    yield "a zero byte", text.replace("images", "im\0ages", 1)
    yield "shares of the image", json.dumps({**contents, "annotations": list(_as_shares(contents))})


def _as_shares(contents):
    width = contents["images"][0]["width"]
    for annotation in contents["annotations"]:
        yield {**annotation, "bbox": [value / width for value in annotation["bbox"]]}


def mutations(contents: Mapping) -> strategies.SearchStrategy[str]:
    """Returns a strategy of texts of files that are broken in one to three places by anything that JSON can say.

    Args:
        contents: a sound file's.
    """
    numbers = strategies.integers() | strategies.floats() | strategies.integers(-100, 100)
    scalars = strategies.none() | strategies.booleans() | numbers | strategies.text(max_size=8)
    known = strategies.sampled_from(list(_REPLACEMENTS.values()))
    anything = strategies.recursive(
        scalars,
        lambda inner: strategies.lists(inner, max_size=4)
        | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3),
        max_leaves=5,
    )
    places = strategies.sampled_from(list(_paths(contents)))
    changes = strategies.lists(strategies.tuples(places, known | anything), min_size=1, max_size=3)
    return changes.map(lambda changes: _mutate_all(contents, changes))


def _mutate_all(contents, changes):
    mutated = copy.deepcopy(contents)
    for path, value in changes:
        try:
            _replace(mutated, path, value)
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # another change has taken the place away
    return json.dumps(mutated)


def is_harmless(text: str, contents: Mapping, *, masks: bool = False, areas: bool = False) -> bool:
    """Tells whether a file may be accepted: it says what the sound one says, or is sound itself.

    Args:
        text: of the file.
        contents: a sound file's, with the same images.
        masks: whether masks count.
        areas: whether areas count, as in an evaluation.
    """
    try:
        mutated = json.loads(text)
        said = _what_is_said(mutated, masks, areas)
        return said == _what_is_said(contents, masks, areas) or _is_sound(mutated, contents, masks, areas)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _what_is_said(contents, masks, areas):
    images = {(x["id"], x["file_name"], x["width"], x["height"]) for x in contents["images"]}
    keys = ("image_id", "category_id", "bbox", "iscrowd", *["segmentation"] * masks, *["area"] * areas)
    annotations = sorted(repr([{"iscrowd": 0, **a}[key] for key in keys]) for a in contents["annotations"])
    return images, annotations, {(c["id"], c["name"]) for c in contents["categories"]}


def _is_sound(contents, sound, masks, areas):
    """An oracle that shares no line with the product's checks."""
    sizes = {x["file_name"]: (x["width"], x["height"]) for x in sound["images"]}
    images = {x["id"]: x for x in contents["images"]}
    categories = [c["id"] for c in contents["categories"]]
    ids = [a["id"] for a in contents["annotations"]]
    return (
        len(images) == len(contents["images"])
        and len(set(categories)) == len(categories)
        and len(set(ids)) == len(ids)
        and all(sizes.get(x["file_name"]) == (x["width"], x["height"]) for x in images.values())
        and all(_is_sound_annotation(a, images, categories, masks, areas) for a in contents["annotations"])
        and all(isinstance(c["name"], str) and type(c["id"]) is int for c in contents["categories"])
        and all(type(identity) is int for identity in ids)
    )


def _is_sound_annotation(annotation, images, categories, masks, areas):
    image, box = images.get(annotation["image_id"]), annotation["bbox"]
    if image is None or annotation["category_id"] not in categories or not _are_finite(box) or len(box) != 4:
        return False
    x, y, width, height = box
    inside = min(x, y) >= -2 and x + width <= image["width"] + 3 and y + height <= image["height"] + 3
    polygons = annotation.get("segmentation", [[0] * 6])
    sound_masks = all(len(p) >= 6 and len(p) % 2 == 0 and _are_finite(p) for p in polygons) and len(polygons) > 0
    return (
        inside
        and min(width, height) >= 0
        and annotation.get("iscrowd", 0) in (0, 1)
        and (not areas or (_are_finite([annotation.get("area", 0)]) and annotation.get("area", 0) >= 0))
        and (sound_masks or not masks)
    )


def _are_finite(values: Sequence) -> bool:
    return all(isinstance(value, Real) and abs(value) < 1e9 for value in values)
