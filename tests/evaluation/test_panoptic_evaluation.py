import json
import pathlib

import cv2
import numpy as np
import pytest
import torch
from cankd.evaluation import PanopticEvaluator
from cankd.evaluation.panoptic_evaluation import count_segments
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image

from tests.tiny_tasks import BACKGROUND

THING, STUFF = 1, 2


def segment(i, category, ids, iscrowd=0):
    return {"id": i, "category_id": category, "area": int((ids == i).sum()), "iscrowd": iscrowd}


def test_counts_by_hand():
    truth = np.array([[5, 5, 5, 5, 6, 6, 0, 0, 8, 8]])  # 5 and 6 things, 8 a crowd of them
    found = np.array([[1, 1, 1, 0, 2, 3, 4, 4, 9, 9]])
    segments = [segment(i, THING, truth, iscrowd=i == 8) for i in (5, 6, 8)]
    counts = count_segments(truth, segments, found, {1: THING, 2: THING, 3: STUFF, 4: THING, 9: THING})
    # 1 meets 5 by three quarters; 2 meets half of 6, which is not more than a half; 4 is on void, 9 on the crowd.
    np.testing.assert_allclose(counts[THING], [0.75, 1, 1, 1])
    np.testing.assert_allclose(counts[STUFF], [0, 0, 1, 0])


def test_crowds_are_not_missed():
    truth = np.array([[1, 1, 2, 2, 3, 3]])
    segments = [segment(i, THING, truth, iscrowd=i < 3) for i in (1, 2, 3)]
    counts = count_segments(truth, segments, np.array([[0, 0, 0, 0, 9, 9]]), {9: THING})
    np.testing.assert_allclose(counts[THING], [1, 1, 0, 0])


def test_equals_the_published_evaluation(tmp_path):
    """cityscapesscripts has that of COCO."""
    reason = "its evaluation is the one to be equal to"
    theirs = pytest.importorskip("cityscapesscripts.evaluation.evalPanopticSemanticLabeling", reason=reason)
    generator = np.random.default_rng(0)
    categories = {i: {"isthing": int(i < 4)} for i in range(1, 6)}
    pairs, ours = [], {i: np.zeros(4) for i in categories}
    for image in range(8):
        truth = np.kron(generator.integers(8, size=(6, 6)), np.ones((4, 4), int)) * 70000
        found = np.where(generator.random(truth.shape) < 0.8, np.roll(truth, image % 3, axis=1), 0) // 70000
        classes = {i: 1 + i % 5 for i in range(1, 8)}
        segments = [segment(i, classes[i // 70000], truth, iscrowd=i == 140000) for i in np.unique(truth) if i]
        predicted = {i: classes[i] if generator.random() < 0.8 else 1 for i in np.unique(found).tolist() if i}
        for category, counts in count_segments(truth, segments, found, predicted).items():
            ours[category] += counts
        for kind, ids in (("truth", truth), ("found", found)):
            cv2.imwrite(str(tmp_path / f"{kind}{image}.png"), np.stack([ids >> 16, ids >> 8, ids], -1) & 255)
        listed = [{"id": i, "category_id": category} for i, category in predicted.items()]
        pairs.append(
            (
                {"file_name": f"truth{image}.png", "segments_info": segments, "image_id": image},
                {"file_name": f"found{image}.png", "segments_info": listed},
            )
        )
    expected = theirs.pq_compute_single_core(0, pairs, str(tmp_path), str(tmp_path), categories)
    for category, counts in ours.items():
        of_category = expected[category]
        np.testing.assert_allclose(counts, [of_category.iou, of_category.tp, of_category.fp, of_category.fn])
    assert sum(counts[1:].min() for counts in ours.values()) > 0  # each kind occurs


def predict(annotation, metadata, with_segments):
    """Returns the output of a model that finds everything, but takes stuff for the first class of things."""
    truth = read_image(f"{metadata.panoptic_root}/{annotation['file_name']}", "RGB").astype(int) @ (1, 256, 256**2)
    ids, segments = np.full(truth.shape, 0 if with_segments else -1), []
    for number, annotated in enumerate(annotation["segments_info"], start=1):
        category = metadata.thing_dataset_id_to_contiguous_id.get(annotated["category_id"], 0)
        ids[truth == annotated["id"]] = number if with_segments else category * metadata.label_divisor + number
        segments.append({"id": number, "isthing": True, "category_id": category})
    return {"panoptic_seg": (torch.tensor(ids), segments if with_segments else None)}


@pytest.mark.parametrize("with_segments", [True, False])
def test_things_and_stuff(tiny_tasks, with_segments):
    name = tiny_tasks["panoptic"][1]
    metadata = MetadataCatalog.get(name)
    metadata.label_divisor = 1000
    annotations = json.loads(pathlib.Path(metadata.panoptic_json).read_text())["annotations"]
    evaluator = PanopticEvaluator(name)
    for annotation in annotations:
        evaluator.process([{"image_id": annotation["image_id"]}], [predict(annotation, metadata, with_segments)])
    found = evaluator.evaluate()["panoptic_seg"]
    classes = [s["category_id"] for a in annotations for s in a["segments_info"] if s["category_id"] < BACKGROUND]
    others, first = len(set(classes) - {1}), classes.count(1)
    first_quality = first / (first + len(annotations) / 2)  # each background is a false alarm of this class
    assert first and found["PQ_th"] == pytest.approx(100 * (others + first_quality) / (others + 1))
    assert found["SQ_th"] == pytest.approx(100)
    assert found["PQ_st"] == found["SQ_st"] == found["RQ_st"] == 0
    assert found["PQ"] == pytest.approx(found["PQ_th"] * (others + 1) / (others + 2))
    evaluator.reset()
    assert np.isnan(evaluator.evaluate()["panoptic_seg"]["PQ"])


def test_areas_and_marks_of_crowds_may_be_left_out():
    truth = np.array([[5, 5, 5, 5, 6, 6, 0, 0]])
    found, classes = np.array([[1, 1, 1, 0, 2, 2, 3, 3]]), {1: THING, 2: THING, 3: STUFF}
    whole = [segment(i, THING, truth) for i in (5, 6)]
    bare = [{key: s[key] for key in ("id", "category_id")} for s in whole]
    np.testing.assert_equal(count_segments(truth, bare, found, classes), count_segments(truth, whole, found, classes))


def test_what_is_missing_is_named(tiny_tasks, tmp_path):
    name = tiny_tasks["panoptic"][1]
    evaluator = PanopticEvaluator(name)
    with pytest.raises(ValueError, match="has no annotation of the image unknown"):
        evaluator.process([{"image_id": "unknown"}], [{}])
    metadata = MetadataCatalog.get(name)
    MetadataCatalog.get("moved").set(panoptic_json=metadata.panoptic_json, panoptic_root=str(tmp_path))
    try:
        with pytest.raises(ValueError, match=r"masks of .* are missing, for example .*look at panoptic_root .*moved"):
            PanopticEvaluator("moved")
    finally:
        MetadataCatalog.remove("moved")
