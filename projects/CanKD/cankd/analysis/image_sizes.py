"""How large the images of a data set are in training, all of them, without reading their pixels."""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import detectron2.data.transforms as T
from cankd.data import CenterCrop, RandomResizedCrop, is_turned
from cankd.engine import build_mapper
from cankd.utils import UserError
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig
from PIL import Image
from tqdm import tqdm

from .findings import Findings

__all__ = ["ImageSizes", "describe_sizes", "find_training_sizes"]

Size = tuple[int, int]
Pick = Callable[[Iterable[float]], float]


@dataclasses.dataclass(frozen=True)
class ImageSizes:
    """Height and width of images in training, in pixels.

    Attributes:
        at_least: of each image, where what is drawn at random makes it smallest.
        smallest: shortest side first, over all images.
        smallest_file: the image that it is.
        median: by area, each image at the middle of what it may become.
        largest: by area, each image at its largest.
    """

    at_least: list[Size]
    smallest: Size
    smallest_file: str
    median: Size
    largest: Size


def describe_sizes(records: Sequence[Mapping], loader: DictConfig, findings: Findings) -> ImageSizes | None:
    """Tells the sizes of a training set; gives None where the loader has no mapper or brings its own data.

    The arguments are those of :func:`find_training_sizes`, with the config of the whole loader.
    """
    if "mapper" not in loader or not isinstance(records, list):
        return None
    sizes = find_training_sizes(records, loader.mapper)
    named = {"smallest": sizes.smallest, "median": sizes.median, "largest": sizes.largest}
    listed = ", ".join("{} {}×{}".format(name, *size) for name, size in named.items())
    findings.show(f"\nSizes of all {len(records)} images in training: {listed}")
    return sizes


def find_training_sizes(records: Sequence[Mapping], mapper: DictConfig) -> ImageSizes:
    """Finds the sizes of all images of a data set in training.

    Args:
        records: in Detectron2's format, at least one. Of those that do not say their size the file's header is read.
        mapper: lazy call of a mapper. Of its augmentations those count that resize or crop.

    Raises:
        UserError: if the mapper cannot be built, or a header cannot be read.
    """
    built = build_mapper(mapper)
    augmentations = getattr(getattr(built, "augmentations", None), "augs", ())
    sizes = _original_sizes(records)
    resize = functools.partial(_resize_all, set(sizes), augmentations)
    at_least, at_middle, at_most = (resize(pick) for pick in (min, statistics.median, max))
    first = min(range(len(sizes)), key=lambda i: sorted(at_least[sizes[i]]))
    by_area = sorted((at_middle[size] for size in sizes), key=_area)
    return ImageSizes(
        at_least=[at_least[size] for size in sizes],
        smallest=at_least[sizes[first]],
        smallest_file=records[first]["file_name"],
        median=by_area[len(by_area) // 2],
        largest=max((at_most[size] for size in sizes), key=_area),
    )


def _area(size):
    return size[0] * size[1]


def _original_sizes(records):
    unknown = [record["file_name"] for record in records if not {"height", "width"} <= record.keys()]
    with ThreadPoolExecutor() as pool:
        headers = pool.map(_read_size, unknown)
        hidden = None if unknown else True  # None: where the output is no terminal
        headers = iter(tqdm(headers, "Reading sizes", len(unknown), unit="image", leave=False, disable=hidden))
        return [
            (record["height"], record["width"]) if {"height", "width"} <= record.keys() else next(headers)
            for record in records
        ]


def _read_size(path):
    try:
        with Image.open(PathManager.get_local_path(path)) as image:
            return image.size if is_turned(image) else image.size[::-1]
    except OSError as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def _resize_all(sizes, augmentations, pick):
    resized = {size: size for size in sizes}
    for augmentation in augmentations:
        resized = {size: _resize(augmentation, now, pick) for size, now in resized.items()}
    return resized


@functools.singledispatch
def _resize(augmentation: object, size: Size, pick: Pick) -> Size:
    """Returns what becomes of a size; ``pick`` chooses from a range of what is drawn at random."""
    return size


@_resize.register
def _(augmentation: T.ResizeShortestEdge, size: Size, pick: Pick) -> Size:
    length = pick(augmentation.short_edge_length)
    return augmentation.get_output_shape(*size, length, augmentation.max_size) if length else size


@_resize.register
def _(augmentation: T.ResizeScale, size: Size, pick: Pick) -> Size:
    targets = augmentation.target_height, augmentation.target_width
    scale = pick((augmentation.min_scale, augmentation.max_scale))
    scale *= min(target / side for target, side in zip(targets, size))
    return tuple(round(side * scale) for side in size)


@_resize.register
def _(augmentation: T.Resize, size: Size, pick: Pick) -> Size:
    return tuple(augmentation.shape)


@_resize.register(T.RandomCrop_CategoryAreaConstraint)
def _(augmentation: T.Augmentation, size: Size, pick: Pick) -> Size:
    return _resize(augmentation.crop_aug, size, pick)


@_resize.register
def _(augmentation: T.RandomCrop, size: Size, pick: Pick) -> Size:
    crop = augmentation.crop_size
    if augmentation.crop_type == "absolute_range":
        return tuple(int(pick(min(side, bound) for bound in crop)) for side in size)
    if augmentation.crop_type == "relative_range":
        return tuple(int(side * pick((share, 1.0)) + 0.5) for side, share in zip(size, crop))
    return augmentation.get_crop_size(size)  # nothing is drawn


@_resize.register
def _(augmentation: T.FixedSizeCrop, size: Size, pick: Pick) -> Size:
    crop = tuple(augmentation.crop_size)
    return crop if augmentation.pad else tuple(map(min, size, crop))


@_resize.register(CenterCrop)
@_resize.register(RandomResizedCrop)
def _(augmentation: T.Augmentation, size: Size, pick: Pick) -> Size:
    return augmentation.size, augmentation.size
