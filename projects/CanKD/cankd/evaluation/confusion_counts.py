from collections.abc import Sequence

import numpy as np
from cankd.utils import UserError

__all__ = ["ConfusionCounts"]


class ConfusionCounts:
    """How often each class was taken for each: what confusion matrices of detectors and of classifiers share.

    Attributes:
        class_names: of rows and columns.
        counts: ``(classes, classes)``; rows are true, columns predicted.
    """

    counting: str
    """What is counted, in a word or two."""

    def __init__(self, class_names: Sequence[str], *others: str):
        """
        Args:
            class_names: in the order of the contiguous ids.
            others: names of rows and columns behind them.

        Raises:
            UserError: if there is no class.
        """
        if not class_names:
            raise UserError("a confusion matrix needs classes, and the data set names none")
        self.class_names = [*class_names, *others]
        self.counts = np.zeros((len(self.class_names), len(self.class_names)), dtype=int)

    def percentages(self) -> np.ndarray:
        """Returns the counts as per cent of each row, ``(classes, classes)``; NaN in rows without counts."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.divide(100.0 * self.counts, totals, out=np.full(self.counts.shape, np.nan), where=totals > 0)
