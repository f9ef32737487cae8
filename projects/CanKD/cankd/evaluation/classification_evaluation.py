import numpy as np
from cankd.utils import UserError
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from .class_confusion import ClassConfusion

__all__ = ["ClassificationEvaluator"]


class ClassificationEvaluator(DatasetEvaluator):
    """Measures how many images a classifier gets right, in per cent.

    The task "classification" has "top1" and "top5", the shares of images whose label is the first, or among the first
    five, of the predicted classes; "mACC", the mean of the classes' accuracies; and these, as "ACC-<name>".
    """

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: of a registered data set, whose metadata have ``image_classes`` once it was loaded.
        """
        self._dataset_name = dataset_name
        self.reset()

    def reset(self) -> None:
        """See :class:`DatasetEvaluator`.

        Raises:
            UserError: if the data set has no class names.
        """
        names = MetadataCatalog.get(self._dataset_name).get("image_classes")
        if not names:
            raise UserError(
                f"the classes of {self._dataset_name} have no names: register it by cankd.data.register_image_folders, "
                "or set image_classes of its MetadataCatalog"
            )
        self._confusion = ClassConfusion(names)
        self._in_top5 = 0

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Counts a batch.

        Args:
            inputs: records with "label".
            outputs: as :class:`cankd.modeling.meta_arch.Classifier` gives them.

        Raises:
            UserError: if the model has other classes than the data set, or a record has no label.
        """
        for record, output in zip(inputs, outputs):
            if "label" not in record:
                raise UserError(f"{record.get('file_name', 'a record')} has no label: nothing can be measured on it")
            self._confusion.add(output["classes"], record["label"])
            self._in_top5 += record["label"] in output["classes"][:5].tolist()

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Returns the metrics of what all processes have counted; empty except on the main process."""
        gathered = comm.gather((self._confusion.counts, self._in_top5))
        if not comm.is_main_process():
            return {}
        counts, in_top5 = (sum(values) for values in zip(*gathered))
        with np.errstate(invalid="ignore"):  # a class without images has no accuracy
            accuracies = 100 * counts.diagonal() / counts.sum(axis=1)
        metrics = {
            "top1": 100 * counts.trace() / counts.sum(),
            "top5": 100 * in_top5 / counts.sum(),
            "mACC": np.nanmean(accuracies),
            **{f"ACC-{name}": value for name, value in zip(self._confusion.class_names, accuracies)},
        }
        return {"classification": {name: float(value) for name, value in metrics.items()}}
