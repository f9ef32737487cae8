"""Records of images without annotations, beside others in one batch."""

from collections.abc import Mapping, Sequence

__all__ = ["UNLABELLED", "split_unlabelled"]

UNLABELLED = "unlabelled"
"""Entry of a record that is true if its image takes part in the distillation alone."""


def split_unlabelled(records: Sequence[Mapping]) -> tuple[list[Mapping], list[Mapping]]:
    """Returns the records of a batch with annotations, and those that are marked by :data:`UNLABELLED`."""
    groups = [], []
    for record in records:
        groups[bool(record.get(UNLABELLED))].append(record)
    return groups
