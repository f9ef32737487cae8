import functools

from detectron2.data import DatasetCatalog, MetadataCatalog

from .unlabelled import without_annotations

__all__ = ["register_subset"]


def register_subset(
    name: str, dataset: str, start: int | None = None, stop: int | None = None, *, labelled: bool = True
) -> None:
    """Registers a part of a registered data set, with the metadata of the whole.

    A labelled part has also ``image_ids``, by which COCO's and LVIS's evaluation leaves the other images out.

    Args:
        name: of the part.
        dataset: of the whole.
        start, stop: records from the one number to before the other, as in ``list[start:stop]``.
        labelled: whether the records keep their annotations.
    """
    DatasetCatalog.register(name, functools.partial(_load_subset, name, dataset, slice(start, stop), labelled))


def _load_subset(name, dataset, part, labelled):
    records = DatasetCatalog.get(dataset)[part]
    known = MetadataCatalog.get(dataset).as_dict()  # some of it only once the data set was read
    metadata = MetadataCatalog.get(name).set(**{key: value for key, value in known.items() if key != "name"})
    if not labelled:
        return [without_annotations(record) for record in records]
    if all("image_id" in record for record in records):
        metadata.set(image_ids=[record["image_id"] for record in records])
    return records
