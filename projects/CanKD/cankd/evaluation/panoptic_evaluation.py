import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from cankd.utils import UserError
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

__all__ = ["PanopticEvaluator", "count_segments"]

_VOID = 0
_MAX_SEGMENTS = 256**3  # ids are the three channels of a PNG


class PanopticEvaluator(DatasetEvaluator):
    """Panoptic quality of things and stuff (Kirillov et al. 2019), by COCO's rules.

    It gives the metrics of Detectron2's :class:`COCOPanopticEvaluator` without panopticapi, which no package index has.
    """

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: registered with ``panoptic_json`` and ``panoptic_root``, in COCO's panoptic format.

        Raises:
            UserError: if masks are missing. :meth:`process` raises it for an image without annotation.
        """
        self._metadata = MetadataCatalog.get(dataset_name)
        with PathManager.open(self._metadata.panoptic_json) as f:
            contents = json.load(f)
        self._is_thing = {category["id"]: bool(category["isthing"]) for category in contents["categories"]}
        self._annotations = {annotation["image_id"]: annotation for annotation in contents["annotations"]}
        self._check_masks(contents["annotations"])
        things, stuff = (self._metadata.get(f"{kind}_dataset_id_to_contiguous_id") for kind in ("thing", "stuff"))
        self._ids = {True: {v: k for k, v in things.items()}, False: {v: k for k, v in stuff.items()}}
        self.reset()

    def _check_masks(self, annotations):
        files = [os.path.join(self._metadata.panoptic_root, annotation["file_name"]) for annotation in annotations]
        if missing := [file for file in files if not PathManager.isfile(file)]:
            raise UserError(
                f"{len(missing)} of {len(files)} masks of {self._metadata.panoptic_json} are missing, for example "
                f"{missing[0]}: look at panoptic_root of the data set {self._metadata.name}"
            )

    def reset(self) -> None:
        """Forgets all images."""
        self._counts = defaultdict(lambda: np.zeros(4))

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Counts the segments of some images.

        Args:
            inputs: records with "image_id".
            outputs: with "panoptic_seg", a map of ids ``(H, W)`` and a list of segments. The list may be None: the ids
                are then class · ``label_divisor`` + number, −1 for none.
        """
        for record, output in zip(inputs, outputs):
            annotation = self._annotations.get(record["image_id"])
            if annotation is None:
                raise UserError(
                    f"{self._metadata.panoptic_json} has no annotation of the image {record['image_id']}: evaluate on "
                    "images that it describes"
                )
            channels = read_image(os.path.join(self._metadata.panoptic_root, annotation["file_name"]), "RGB")
            truth = channels.astype(np.int64) @ (1, 256, 256**2)
            found, categories = self._read_prediction(*output["panoptic_seg"])
            for category, counts in count_segments(truth, annotation["segments_info"], found, categories).items():
                self._counts[category] += counts

    def _read_prediction(self, segmentation, segments):
        """Returns the map of ids and the class of each, as the annotations name it."""
        found = segmentation.cpu().numpy()
        if segments is None:
            classes = {int(i) + 1: int(i) // self._metadata.label_divisor for i in np.unique(found) if i >= 0}
            is_thing = {c: c in self._metadata.thing_dataset_id_to_contiguous_id.values() for c in classes.values()}
            return found + 1, {i: self._ids[is_thing[c]][c] for i, c in classes.items()}
        return found, {s["id"]: self._ids[bool(s["isthing"])][s["category_id"]] for s in segments}

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Sums up all images.

        Returns:
            Map from "panoptic_seg" to metrics in per cent: PQ, and SQ and RQ whose product it is for each class, as
            means over classes, over those of things (PQ_th) and those of stuff (PQ_st). NaN where there is no class.
            Empty except on the main process.
        """
        gathered = comm.gather(dict(self._counts))
        if not comm.is_main_process():
            return {}
        counts = defaultdict(lambda: np.zeros(4))
        for category, added in (item for of_process in gathered for item in of_process.items()):
            counts[category] += added
        metrics = {}
        for suffix, kinds in (("", (True, False)), ("_th", (True,)), ("_st", (False,))):
            of_kind = [counts[category] for category in counts if self._is_thing[category] in kinds]
            values = np.mean([_qualities(*c) for c in of_kind], axis=0) if of_kind else np.full(3, np.nan)
            metrics |= {f"{name}{suffix}": 100 * float(value) for name, value in zip(("PQ", "SQ", "RQ"), values)}
        return {"panoptic_seg": metrics}


def count_segments(
    truth: np.ndarray, segments: Sequence[Mapping], found: np.ndarray, categories: Mapping[int, int]
) -> dict[int, np.ndarray]:
    """Matches the segments of an image: those of one class whose IoU is above a half.

    Args:
        truth: annotated ids, ``(H, W)``; 0 is void, where nothing counts as wrong.
        segments: what the annotation says of each id: "id" and "category_id", and if it is not what it seems, "area"
            and "iscrowd".
        found: predicted ids, ``(H, W)``; 0 is none.
        categories: map from predicted id to class.

    Returns:
        Map from class to the sum of the matches' IoU, and the numbers of matches, of segments that are predicted only,
        and of those that are annotated only.
    """
    pairs, areas = np.unique(truth.astype(np.int64) * _MAX_SEGMENTS + found, return_counts=True)
    overlaps = Counter({divmod(pair, _MAX_SEGMENTS): area for pair, area in zip(pairs.tolist(), areas.tolist())})
    true_sizes, sizes = Counter(), Counter()
    for (i, j), overlap in overlaps.items():
        true_sizes[i] += overlap
        sizes[j] += overlap
    annotated = {s["id"]: {"iscrowd": 0, "area": true_sizes[s["id"]], **s} for s in segments}
    counts, matched = defaultdict(lambda: np.zeros(4)), (set(), set())
    for (i, j), overlap in overlaps.items():
        if i not in annotated or annotated[i]["iscrowd"] or annotated[i]["category_id"] != categories.get(j):
            continue
        iou = overlap / (annotated[i]["area"] + sizes[j] - overlap - overlaps[_VOID, j])
        if iou > 0.5:
            counts[categories[j]] += iou, 1, 0, 0
            matched[0].add(i)
            matched[1].add(j)
    crowds = {segment["category_id"]: i for i, segment in annotated.items() if segment["iscrowd"]}
    for j in categories.keys() & sizes.keys() - matched[1]:
        ignored = overlaps[_VOID, j] + overlaps[crowds.get(categories[j]), j]
        if ignored / sizes[j] <= 0.5:
            counts[categories[j]] += 0, 0, 1, 0
    for i in annotated.keys() - matched[0]:
        if not annotated[i]["iscrowd"]:
            counts[annotated[i]["category_id"]] += 0, 0, 0, 1
    return dict(counts)


def _qualities(iou, matches, predicted_only, annotated_only):
    """Returns panoptic, segmentation and recognition quality of a class."""
    segments = matches + (predicted_only + annotated_only) / 2
    return iou / segments, iou / max(matches, 1), matches / segments
