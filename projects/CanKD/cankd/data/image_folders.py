"""Data sets for classification as folders of images, one folder a class."""

import functools
import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence

from cankd.utils import UserError
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from .images import IMAGE_SUFFIXES, is_image_name

__all__ = ["imagenet_classes", "load_image_folder", "register_image_folders"]

_OTHER_SPLIT = {"train": "val", "val": "train"}


def imagenet_classes() -> list[str]:
    """Returns the names for people of ImageNet's 1,000 classes, as torchvision has them."""
    from torchvision.models import ResNet18_Weights

    return ResNet18_Weights.IMAGENET1K_V1.meta["categories"]


def register_image_folders(
    name: str, root: str, *, class_names: Sequence[str] | Callable[[], Sequence[str]] = ()
) -> None:
    """Registers ``root/train/CLASS/*`` as ``<name>_train`` and ``root/val/CLASS/*`` as ``<name>_val``.

    The folders are read on first use, without opening an image. From then on, the metadata have ``image_classes``.
    What was registered under the name before is replaced.

    Args:
        name: of the data set.
        root: of its folders.
        class_names: names for people, in the order of the folders' sorted names, or a function that gives them; where
            they are not as many, as for a part of the classes, the folders' names are the classes'.
    """
    for split in _OTHER_SPLIT:
        dataset = f"{name}_{split}"
        if dataset in DatasetCatalog:  # a config that registers is read more than once
            DatasetCatalog.remove(dataset)
            MetadataCatalog.remove(dataset)
        DatasetCatalog.register(dataset, functools.partial(_load_split, dataset, root, split, class_names))
        MetadataCatalog.get(dataset).set(evaluator_type="classification")


def _load_split(dataset, root, split, class_names):
    metadata = MetadataCatalog.get(dataset)
    names = list(class_names() if callable(class_names) else class_names)
    if names and not os.path.isdir(root):
        metadata.set(image_classes=names)  # for images from elsewhere
    folders = list_classes(os.path.join(root, split))
    other = os.path.join(root, _OTHER_SPLIT[split])
    if os.path.isdir(other) and (differing := sorted(set(folders) ^ set(list_classes(other)))):
        raise UserError(
            f"{root} has {len(differing)} classes in one of train and val only, the first is {differing[0]!r}: both "
            "need the same folders, as their order numbers the classes"
        )
    classes = names if len(names) == len(folders) else folders
    if len(set(classes)) < len(classes):
        twice = next(name for name, count in Counter(classes).items() if count > 1)
        raise UserError(f"{dataset} has two classes of the name {twice!r}: give each a name of its own (class_names)")
    metadata.set(image_classes=classes)
    return load_image_folder(os.path.join(root, split))


def list_classes(root: str) -> list[str]:
    """Returns the sorted names of a folder's sub-folders, each a class.

    Raises:
        UserError: if there is none.
    """
    if not os.path.isdir(root):
        raise UserError(f"there is no folder {root}: it has to have one folder of images a class")
    with os.scandir(root) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UserError(f"{root} has no classes: it has to have one folder of images a class")
    return classes


def load_image_folder(root: str) -> list[dict]:
    """Lists ``root/CLASS/*`` as records with "file_name" and "label", the number of the class.

    The first record is of the first class, the second of the second and so on, so that a few from the start show
    several classes.

    Args:
        root: with a folder a class.

    Raises:
        UserError: if there is no class, or one without images.
    """
    by_class = []
    for label, name in enumerate(tqdm(list_classes(root), f"Listing {root}", unit="class", leave=False, disable=None)):
        folder = os.path.join(root, name)
        files = sorted(filter(is_image_name, os.listdir(folder)))
        if not files:
            raise UserError(f"{folder} has no image ({', '.join(IMAGE_SUFFIXES)}): a class without images is none")
        by_class.append([{"file_name": os.path.join(folder, file), "label": label} for file in files])
    return [record for row in itertools.zip_longest(*by_class) for record in row if record]
