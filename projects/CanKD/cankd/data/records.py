"""Data sets as lists of records, in Detectron2's format."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from numbers import Real

from cankd.utils import UserError, target_of, where
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.catalog import Metadata
from omegaconf import DictConfig

from .annotation_checks import has_broken_crowd_mark

__all__ = ["dataset_names", "describe_dataset", "load_records", "metadata_of"]

_PATHS = "file_name", "sem_seg_file_name"


def load_records(dataset: DictConfig) -> Sequence:
    """Loads the records of a data set and makes sure that its images exist.

    Args:
        dataset: lazy call of :func:`detectron2.data.get_detection_dataset_dicts`, or of anything that gives a list of
            records or a data set.

    Raises:
        UserError: if the data set is not registered, its annotations are absent or unreadable, classes have no names,
            images are missing, or the function that gives its records fails in any way.
    """
    names = dataset_names(dataset)
    for name in names:
        if name not in DatasetCatalog:
            raise UserError(
                f"no data set is registered as {name!r}. Register it in the config, for example by "
                "detectron2.data.datasets.register_coco_instances(name, {}, json_file, image_root), or, for a yacs "
                "config, in a Python file that --datasets names. Registered are: "
                f"{', '.join(sorted(DatasetCatalog))}"
            )
    described = describe_dataset(dataset)
    try:
        records = _load(dataset)
    except UserError:
        raise
    except Exception as error:  # the function that gives the records is the user's: anything can go wrong in it
        raise UserError(_describe(error, names, described, is_coco=bool(_json_files(names)))) from error
    _check_class_names(names)
    if isinstance(records, list):
        _write_out_paths(records)
        _check_images(records, described)
    return records


def _load(dataset):
    """Loads the records; images that Detectron2 takes for empty because of a broken mark of a crowd stay in them."""
    if target_of(dataset) is not get_detection_dataset_dicts or not dataset.get("filter_empty", True):
        return instantiate(dataset)
    records = instantiate({**dataset, "filter_empty": False})
    if not isinstance(records, list) or "annotations" not in records[0]:
        return records
    annotated = {id(record) for record in filter_images_with_only_crowd_annotations(records)}
    records = [
        record
        for record in records
        if id(record) in annotated or any(map(has_broken_crowd_mark, record["annotations"]))
    ]
    if not records:
        raise ValueError("no image has an annotation that is not of a crowd")
    return records


def _write_out_paths(records):
    for record in records:
        record.update({key: os.fspath(record[key]) for key in _PATHS if isinstance(record.get(key), os.PathLike)})


def _check_class_names(datasets):
    for dataset in datasets:
        classes = MetadataCatalog.get(dataset).get("thing_classes", ())
        if strange := [name for name in classes if not isinstance(name, str)]:
            raise UserError(
                f"{describe_dataset({'names': dataset})} has {len(strange)} of {len(classes)} classes whose name is no "
                f"text; the first is {str(strange[0])[:60]}"
            )


def describe_dataset(dataset: DictConfig) -> str:
    """Returns what to call a data set, given as a lazy call: its annotation files, or its names."""
    names = dataset_names(dataset)
    return ", ".join(_json_files(names)) or ", ".join(names) or "the data set"


def dataset_names(dataset: DictConfig) -> list[str]:
    """Returns the names of a data set, given as a lazy call; none if it is made by a function without them.

    Raises:
        UserError: if they are no names.
    """
    names = dataset.get("names", ())
    if isinstance(names, Real):
        raise UserError(f"the data set's names are {names!r}, and have to be a name or a list of names")
    return [names] if isinstance(names, str) else list(names)


def _json_files(names):
    return [file for name in names if (file := MetadataCatalog.get(name).get("json_file"))]


def _describe(error, names, described, *, is_coco):
    """Returns what is wrong with a data set that cannot be read, with file and line."""
    kind, place = type(error).__name__, where(error)
    if isinstance(error, ModuleNotFoundError):
        return f"the data set {', '.join(names)} is read by the package {error.name}, which is not installed ({place})"
    if isinstance(error, FileNotFoundError) and error.filename:
        path = os.path.abspath(error.filename)
        return f"{path} is absent; the data set {', '.join(names)} needs it ({kind}; {place})"
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return f"{described} is not JSON, or is cut off: {error} ({kind})"
    wanted = " It has to be in COCO format, with lists of images, annotations and categories, and annotated images"
    return f"{described} cannot be used ({kind}: {error}; {place}).{wanted if is_coco else ''}"


def _check_images(records, described):
    """Lists each folder once: asking for every file by itself takes minutes on a network file system."""
    wanted = defaultdict(set)
    for path in (record[key] for record in records for key in _PATHS if key in record):
        if "://" not in path:  # what is remote is fetched when it is read
            folder, name = os.path.split(path)
            wanted[folder].add(name)
    missing = []
    for folder, names in wanted.items():
        present = os.listdir(folder or ".") if os.path.isdir(folder or ".") else ()
        missing += [os.path.join(folder, name) for name in sorted(names.difference(present))]
    if missing:
        raise UserError(
            f"{described} names {len(missing)} files that do not exist, for {len(records)} images; the first is "
            f"{os.path.abspath(missing[0])}. Check the image root"
        )


def metadata_of(dataset: DictConfig) -> Metadata:
    """Returns what Detectron2 knows of a data set, given as a lazy call with ``names``."""
    names = dataset.names
    return MetadataCatalog.get(names if isinstance(names, str) else names[0])
