import json

import numpy as np
import pytest
import torch
from cankd.evaluation import ConfusionMatrix, annotated_instances, match_greedily
from detectron2.structures import Boxes, BoxMode, Instances

from tests.references import reference


def found(*rows):
    """Detections from (x0, score, class): boxes of 10×10 pixels at y = 0."""
    instances = Instances((100, 100))
    instances.pred_boxes = Boxes(torch.tensor([[x, 0.0, x + 10.0, 10.0] for x, _, _ in rows]).reshape(-1, 4))
    instances.scores = torch.tensor([score for _, score, _ in rows])
    instances.pred_classes = torch.tensor([category for *_, category in rows], dtype=torch.long)
    return instances


def true(*rows):
    """Objects from (x0, class)."""
    box = dict(bbox_mode=BoxMode.XYWH_ABS)
    return annotated_instances([{"bbox": [x, 0, 10, 10], "category_id": c, **box} for x, c in rows], (100, 100))


def counts(detections, objects, **rules):
    matrix = ConfusionMatrix(["a", "b"], **rules)
    matrix.add(detections, objects)
    return matrix.counts.tolist()


def test_hits_confusions_misses_and_inventions():
    detections = found((0, 0.9, 0), (21, 0.8, 0), (80, 0.7, 1))
    objects = true((0, 0), (20, 1), (50, 1))
    # rows are true: a, b, background; columns predicted
    assert counts(detections, objects) == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_higher_scores_choose_first_and_one_object_counts_once():
    # IoU with the object at 0: 8/12 at x = 2, 9/11 at x = 1. The better score takes it, though it overlaps less.
    assert counts(found((2, 0.9, 1), (1, 0.5, 0)), true((0, 0))) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_a_detection_takes_the_free_object_it_overlaps_most():
    detections = found((3, 0.9, 1), (3, 0.8, 0))
    # 3 overlaps 4 (IoU 9/11) more than 1 (8/12); what is left for the second is 1
    assert counts(detections, true((1, 0), (4, 1))) == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_thresholds():
    detections = found((5, 0.9, 0), (40, 0.2, 0))  # IoU 1/3 with the object at 0
    assert counts(detections, true((0, 0))) == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert counts(detections, true((0, 0)), iou_threshold=0.33) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert counts(detections, true((0, 0)), iou_threshold=0.33, score_threshold=0.1)[2] == [1, 0, 0]


def test_images_without_detections_or_objects():
    assert counts(found(), true((0, 1))) == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert counts(found((0, 0.9, 1)), true()) == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert counts(found(), true()) == [[0] * 3] * 3


def test_published_counts_every_overlap():
    detections = found((0, 0.9, 0), (1, 0.8, 1), (2, 0.7, 1), (60, 0.6, 0))
    # All of the first three overlap both objects; that at 30, of no detection's class nearby, is missed.
    objects = true((0, 0), (1, 0), (30, 1))
    assert counts(detections, objects, counting="published") == [[2, 4, 0], [0, 0, 1], [1, 0, 0]]
    assert counts(detections, objects) == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]


def test_published_calls_an_object_missed_that_only_another_class_finds():
    detections, objects = found((0, 0.9, 1)), true((0, 0))
    assert counts(detections, objects, counting="published") == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert counts(detections, objects) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert counts(found(), objects, counting="published") == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert counts(detections, true(), counting="published") == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("crowds, key", [(True, "matrix"), (False, "matrix_without_crowds")])
def test_published_counting_equals_the_reference(crowds, key):
    case = json.loads(reference("confusion_matrix.json").read_text())
    names = [str(i) for i in range(case["num_classes"])]
    thresholds = {name: case[name] for name in ("iou_threshold", "score_threshold")}
    matrix = ConfusionMatrix(names, counting="published", **thresholds)
    for image in case["images"]:
        detections = Instances((100, 100))
        detections.pred_boxes = Boxes(torch.tensor(image["detections"]["boxes"]).reshape(-1, 4))
        detections.scores = torch.tensor(image["detections"]["scores"])
        detections.pred_classes = torch.tensor(image["detections"]["classes"], dtype=torch.long)
        annotations = [
            {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category, "iscrowd": int(crowd)}
            for box, category, crowd in zip(*(image["objects"][name] for name in ("boxes", "classes", "crowd")))
        ]
        matrix.add(detections, annotated_instances(annotations, (100, 100), crowds=crowds))
    assert matrix.counts.tolist() == case[key]


def test_percentages_are_of_rows():
    matrix = ConfusionMatrix(["a", "b"])
    matrix.counts[:] = [[3, 1, 0], [0, 0, 0], [0, 2, 0]]
    assert np.array_equal(matrix.percentages(), [[75, 25, 0], [np.nan, np.nan, np.nan], [0, 100, 0]], equal_nan=True)


def test_matches_by_class_leave_others_free():
    objects = true((0, 0), (1, 1))
    assert match_greedily(found((0, 0.9, 1), (0, 0.8, 0)), objects, iou_threshold=0.5).tolist() == [0, 1]
    assert match_greedily(found((0, 0.9, 1), (0, 0.8, 0)), objects, iou_threshold=0.5, by_class=True).tolist() == [1, 0]


def test_crowds_do_not_count():
    annotations = [{"bbox": [0, 0, 5, 5], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 1}]
    assert len(annotated_instances(annotations, (9, 9))) == 0
    assert len(annotated_instances(annotations, (9, 9), crowds=True)) == 1


@pytest.mark.parametrize(
    "names, rules, message",
    [
        ([], {}, "needs classes"),
        (["a"], {"iou_threshold": 0.0}, r"the thresholds are 0.0 \(IoU\) and 0.3"),
        (["a"], {"score_threshold": 1.1}, "both have to lie between 0 and 1"),
        (["a"], {"counting": "all"}, "counting is 'all'; it has to be one of one-to-one, published"),
    ],
)
def test_impossible_settings_are_refused(names, rules, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(names, **rules)
