"""Images without annotations: their records, and how a mapper of labelled ones reads them."""

import copy
import difflib
import os
from collections.abc import Callable, Mapping, Sequence

import detectron2.data.transforms as T
from cankd.utils import UNLABELLED, UserError
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog

from .images import check_image, list_images, naming_broken_image
from .records import load_records

__all__ = ["UnlabelledMapper", "load_unlabelled", "without_annotations"]

ANNOTATIONS = {
    "annotations",
    "label",
    "pan_seg_file_name",
    "proposal_bbox_mode",
    "proposal_boxes",
    "proposal_objectness_logits",
    "segments_info",
    "sem_seg_file_name",
}


def without_annotations(record: Mapping) -> dict:
    """Returns a record of Detectron2's format without its annotations and proposals."""
    return {key: value for key, value in record.items() if key not in ANNOTATIONS}


def load_unlabelled(datasets: str | Sequence[str]) -> list[dict]:
    """Loads the records of images that are used without annotations, whether there are some or not.

    Args:
        datasets: names of registered data sets, and folders, whose images at any depth all count. None is opened.

    Raises:
        UserError: if a name is neither, or a data set or folder cannot be used.
    """
    names = [datasets] if isinstance(datasets, str) else list(datasets)
    return [record for name in names for record in _load(name)]


def _load(name):
    if name in DatasetCatalog:
        return load_records(L(_get_records)(names=name))
    if os.path.isdir(name):
        return [{"file_name": file} for file in list_images(name)]
    close = difflib.get_close_matches(name, list(DatasetCatalog), n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else f"; registered are {', '.join(sorted(DatasetCatalog))}"
    raise UserError(f"{name!r} is neither a registered data set nor a folder of images{hint}")


def _get_records(names):
    records = [without_annotations(record) for record in DatasetCatalog.get(names)]
    if not records:
        raise UserError(f"the data set {names} has no images")
    return records


class UnlabelledMapper:
    """Reads images without annotations as a mapper reads labelled ones, and marks their records.

    Crops that look at the annotations (``RandomCrop_CategoryAreaConstraint``) become the crops that they are without.
    """

    def __init__(self, mapper: Callable[[dict], dict]):
        """
        Args:
            mapper: takes a record of Detectron2's format, as :class:`detectron2.data.DatasetMapper` does.
        """
        augmentations = getattr(mapper, "augmentations", None)
        if isinstance(augmentations, T.AugmentationList):
            mapper = copy.copy(mapper)
            mapper.augmentations = T.AugmentationList([getattr(x, "crop_aug", x) for x in augmentations.augs])
        self.mapper = mapper

    def __call__(self, record: dict) -> dict:
        """
        Args:
            record: of an image, without annotations.

        Returns:
            What the mapper gives, with :data:`cankd.utils.UNLABELLED` set, and the image's size if the mapper leaves it
            out, by which loaders group images.

        Raises:
            UserError: if the image cannot be read, or has more than 8 bits a channel.
        """
        path = record.get("file_name", "the image")
        if "file_name" in record:
            check_image(path, whole=False)
        with naming_broken_image(path):
            mapped = self.mapper(record)
        height, width = mapped["image"].shape[-2:]
        return {"height": height, "width": width, **mapped, UNLABELLED: True}
