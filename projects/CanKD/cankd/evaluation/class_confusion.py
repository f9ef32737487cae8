from cankd.utils import UserError
from torch import Tensor

from .confusion_counts import ConfusionCounts

__all__ = ["ClassConfusion"]


class ClassConfusion(ConfusionCounts):
    """Counts which classes a classifier takes for which."""

    counting = "top-1"

    def add(self, classes: Tensor, label: int) -> None:
        """Counts one image.

        Args:
            classes: all of them, the most probable first, ``(num_classes,)``.
            label: the true one.

        Raises:
            UserError: if the model has other classes than the data set.
        """
        if len(classes) != len(self.class_names):
            raise UserError(
                f"the model predicts {len(classes)} classes, but the data set has {len(self.class_names)}: evaluate a "
                "model that was trained for these classes, or take a data set that has the model's"
            )
        self.counts[label, int(classes[0])] += 1
