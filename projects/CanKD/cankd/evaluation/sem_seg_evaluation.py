import numpy as np
from detectron2 import evaluation
from detectron2.data.detection_utils import read_image

__all__ = ["SemSegEvaluator"]


class SemSegEvaluator(evaluation.SemSegEvaluator):
    """Detectron2's :class:`SemSegEvaluator`, reading masks in a way that NumPy 2 allows."""

    def __init__(self, dataset_name: str, **kwargs):
        """
        Args:
            dataset_name, kwargs: see :class:`detectron2.evaluation.SemSegEvaluator`.
        """
        super().__init__(dataset_name, **{"sem_seg_loading_fn": _read_mask, **kwargs})


def _read_mask(file_name: str, dtype: type = int) -> np.ndarray:
    return read_image(file_name).astype(dtype)
