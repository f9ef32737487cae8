import copy
import itertools
import json
import os

from cankd.utils import UserError
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.file_io import PathManager
from faster_coco_eval import COCO, COCOeval_faster

__all__ = ["FastCOCOEvaluator"]


class FastCOCOEvaluator(COCOEvaluator):
    """Detectron2's :class:`COCOEvaluator` for boxes and masks, its metrics computed in C++ by faster-coco-eval.

    The metrics are those of pycocotools. Detectron2's own C++ evaluation is there only where it was compiled.
    """

    def __init__(self, dataset_name: str, tasks: tuple[str, ...] | None = None, **kwargs):
        """
        Args:
            dataset_name, kwargs: see :class:`COCOEvaluator`.
            tasks: "bbox", "segm" or both; what the predictions hold if not given.

        Raises:
            UserError: if another task is asked for. :meth:`evaluate` raises it if a class was predicted that the data
                set does not have.
        """
        if tasks is not None and not set(tasks) <= {"bbox", "segm"}:
            raise UserError(f"tasks is {tuple(tasks)}; FastCOCOEvaluator knows bbox and segm, COCOEvaluator more")
        super().__init__(dataset_name, tasks, use_fast_impl=False, **kwargs)

    def _eval_predictions(self, predictions, img_ids=None):
        detections = list(itertools.chain(*[x["instances"] for x in predictions]))
        tasks = self._tasks or self._tasks_from_predictions(detections)
        self._rename_classes(detections)
        if self._output_dir:
            with PathManager.open(os.path.join(self._output_dir, "coco_instances_results.json"), "w") as f:
                json.dump(detections, f)
        if not self._do_evaluation:
            self._logger.info("The annotations are not available: nothing is evaluated.")
            return
        ground_truth = COCO(PathManager.get_local_path(self._metadata.json_file))
        for task in sorted(tasks):
            evaluation = self._evaluate(ground_truth, detections, task, img_ids) if detections else None
            self._results[task] = self._derive_coco_results(
                evaluation, task, class_names=self._metadata.get("thing_classes")
            )

    def _rename_classes(self, detections):
        """Gives detections the class ids of the annotations, which need not be contiguous."""
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id") or {i: i for i in self._coco_api.cats}
        dataset_ids = {contiguous: original for original, contiguous in mapping.items()}
        if unknown := sorted({detection["category_id"] for detection in detections} - dataset_ids.keys()):
            raise UserError(
                f"class {unknown[-1]} was predicted, but {self._metadata.name} has {len(dataset_ids)} classes, "
                f"{min(dataset_ids)} to {max(dataset_ids)}: evaluate a model that was trained for these classes, or "
                "take a data set that has the model's"
            )
        for detection in detections:
            detection["category_id"] = dataset_ids[detection["category_id"]]

    def _evaluate(self, ground_truth, detections, task, img_ids):
        if task == "segm":  # with a box beside it, a detection's size would be the box's
            detections = [{k: v for k, v in detection.items() if k != "bbox"} for detection in detections]
        found = ground_truth.loadRes(copy.deepcopy(detections))
        evaluation = COCOeval_faster(ground_truth, found, task)
        evaluation.params.maxDets = self._max_dets_per_image
        if img_ids is not None:
            evaluation.params.imgIds = img_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation
