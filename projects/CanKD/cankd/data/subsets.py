import functools

from detectron2.data import DatasetCatalog, MetadataCatalog

from .unlabelled import without_annotations

__all__ = ["register_subset"]


def register_subset(
    name: str, dataset: str, start: int | None = None, stop: int | None = None, *, labelled: bool = True
) -> None:
    """Registers a part of a registered data set, with the metadata of the whole.

    It has also ``image_ids``, by which :class:`cankd.evaluation.FastCOCOEvaluator` and ``LVISEvaluator`` leave the
    other images out. Detectron2's own COCOEvaluator takes them for missed.

    Args:
        name: of the part.
        dataset: of the whole.
        start, stop: records from the one number to before the other, as in ``list[start:stop]``.
        labelled: whether the records keep their annotations.
    """
    if json_file := MetadataCatalog.get(dataset).get("json_file"):  # known before the records are loaded
        MetadataCatalog.get(name).json_file = json_file
    DatasetCatalog.register(name, functools.partial(_load_subset, name, dataset, slice(start, stop), labelled))


def _load_subset(name, dataset, part, labelled):
    records = DatasetCatalog.get(dataset)[part]
    known = MetadataCatalog.get(dataset).as_dict()  # some of it only once the data set was read
    has_ids = all("image_id" in record for record in records)
    own = {"image_ids": [record["image_id"] for record in records]} if has_ids else {}
    inherited = {key: value for key, value in known.items() if key not in ("name", "image_ids")}
    MetadataCatalog.get(name).set(**inherited, **own)
    return records if labelled else [without_annotations(record) for record in records]
