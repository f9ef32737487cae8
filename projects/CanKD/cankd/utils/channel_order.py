"""The order of an image's colour channels, "BGR" or "RGB"."""

from collections.abc import Mapping, Sequence

__all__ = ["orders_differ", "reorder_channels"]


def orders_differ(one: str | None, other: str | None) -> bool:
    """Tells whether two channel orders are each other's reverse. An order that is not known differs from none."""
    return {one, other} == {"BGR", "RGB"}


def reorder_channels(records: Sequence[Mapping], source: str | None, target: str | None) -> Sequence[Mapping]:
    """Returns records whose images have another channel order.

    Args:
        records: in Detectron2's format; "image" is a tensor ``(3, H, W)``. They stay as they are.
        source: order of the images; None if it is not known.
        target: order that is wanted; None if any will do.
    """
    if not orders_differ(source, target):
        return records
    return [{**record, "image": record["image"].flip(0)} for record in records]
