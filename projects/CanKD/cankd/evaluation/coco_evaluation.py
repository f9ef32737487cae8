import copy
import json
import os
from collections.abc import Sequence

from cankd.data import check_coco, check_keypoints, complete_keypoints
from cankd.utils import UnknownClassError, UserError, replace_file
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import _evaluate_predictions_on_coco
from detectron2.utils.file_io import PathManager
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools.cocoeval import COCOeval

__all__ = ["FastCOCOEvaluator"]

_COCO_KEYPOINTS = 17
_PREDICTED = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}  # key of a detection by task


class FastCOCOEvaluator(COCOEvaluator):
    """Detectron2's :class:`COCOEvaluator`, the metrics of boxes and masks computed in C++ by faster-coco-eval.

    The metrics are those of pycocotools, which computes those of keypoints. Detectron2's own C++ evaluation is there
    only where it was compiled.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...] | None = None,
        *,
        kpt_oks_sigmas: Sequence[float] = (),
        **kwargs,
    ):
        """
        Args:
            dataset_name, kwargs: see :class:`COCOEvaluator`. If its metadata have ``image_ids``, only these images of
                the annotation file count.
            tasks: some of "bbox", "segm" and "keypoints"; what the predictions hold if not given.
            kpt_oks_sigmas: how exactly each keypoint can be placed, see COCO's keypoint evaluation. If not given,
                ``keypoint_oks_sigmas`` of the data set's metadata; without them COCO's, for its 17 keypoints.

        Raises:
            UserError: if another task is asked for, the annotations are broken (:func:`check_coco`), or the data set
                has another number of keypoints than there are sigmas. :meth:`evaluate` raises it if a class was
                predicted that the data set does not have.
        """
        if tasks is not None and not set(tasks) <= {"bbox", "segm", "keypoints"}:
            raise UserError(f"tasks is {tuple(tasks)}; FastCOCOEvaluator knows bbox, segm and keypoints")
        super().__init__(dataset_name, tasks, use_fast_impl=False, **kwargs)
        check_coco(self._coco_api.dataset, self._metadata.json_file)
        self._kpt_oks_sigmas = list(kpt_oks_sigmas or self._metadata.get("keypoint_oks_sigmas", ()))
        if "keypoints" in (tasks or ()):
            check_keypoints(self._coco_api.dataset, self._metadata.json_file)
            self._check_sigmas(len(self._metadata.get("keypoint_names", ())))

    def _check_sigmas(self, num_keypoints):
        expected = len(self._kpt_oks_sigmas) or _COCO_KEYPOINTS
        if num_keypoints and num_keypoints != expected:
            whose = "" if self._kpt_oks_sigmas else ", those of COCO"
            raise UserError(
                f"{self._metadata.name} has {num_keypoints} keypoints, but there are {expected} sigmas to measure them "
                f"by{whose}: give one for each keypoint, by kpt_oks_sigmas of the evaluator, TEST.KEYPOINT_OKS_SIGMAS "
                "of a yacs config, or keypoint_oks_sigmas of the data set's metadata"
            )

    def _eval_predictions(self, predictions, img_ids=None):
        detections = [dict(detection) for x in predictions for detection in x["instances"]]
        tasks = self._tasks or self._tasks_from_predictions(detections)
        self._rename_classes(detections)
        if self._output_dir:
            with replace_file(os.path.join(self._output_dir, "coco_instances_results.json"), "w") as f:
                json.dump(detections, f)
        if not self._do_evaluation:
            self._logger.info("The annotations are not available: nothing is evaluated.")
            return
        if img_ids is None:
            img_ids = self._metadata.get("image_ids")
        ground_truth = COCO(PathManager.get_local_path(self._metadata.json_file))
        for task in sorted(tasks):
            evaluation = None
            if detections:
                evaluation = self._evaluate(ground_truth, copy.deepcopy(detections), task, img_ids)
            self._results[task] = self._derive_coco_results(
                evaluation, task, class_names=self._metadata.get("thing_classes")
            )

    def _default_classes(self):
        """Maps the annotations' class ids to predicted classes where the metadata does not."""
        return {i: i for i in self._coco_api.cats}

    def _rename_classes(self, detections):
        """Gives detections the class ids of the annotations, which need not be contiguous."""
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id") or self._default_classes()
        dataset_ids = {contiguous: original for original, contiguous in mapping.items()}
        if unknown := sorted({detection["category_id"] for detection in detections} - dataset_ids.keys()):
            raise UnknownClassError(
                f"class {unknown[-1]} was predicted, but {self._metadata.name} has {len(dataset_ids)} classes, "
                f"{min(dataset_ids)} to {max(dataset_ids)}: evaluate a model that was trained for these classes, or "
                "take a data set that has the model's"
            )
        for detection in detections:
            detection["category_id"] = dataset_ids[detection["category_id"]]

    def _evaluate(self, ground_truth, detections, task, img_ids):
        if _PREDICTED[task] not in detections[0]:
            raise UserError(
                f"{task} is among the evaluator's tasks, but the model predicts no {_PREDICTED[task]}: set "
                "dataloader.evaluator.tasks"
            )
        if task == "keypoints":
            self._check_sigmas(len(detections[0]["keypoints"]) // 3)
            complete_keypoints(self._coco_api.dataset["annotations"], len(detections[0]["keypoints"]))
            options = dict(kpt_oks_sigmas=self._kpt_oks_sigmas, cocoeval_fn=COCOeval, img_ids=img_ids)
            return _evaluate_predictions_on_coco(self._coco_api, detections, task, **options)
        if task == "segm":  # with a box beside it, a detection's size would be the box's
            for detection in detections:
                del detection["bbox"]
        evaluation = self._build_evaluation(ground_truth, ground_truth.loadRes(detections), task)
        if img_ids is not None:
            evaluation.params.imgIds = img_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation

    def _build_evaluation(self, ground_truth, detections, task):
        evaluation = COCOeval_faster(ground_truth, detections, task)
        evaluation.params.maxDets = self._max_dets_per_image
        return evaluation
