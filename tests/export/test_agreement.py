import math

import pytest
import torch
from cankd.export import Agreement


def detections(*rows):
    """Returns the output for rows of x0, y0, x1, y1, class, score."""
    table = torch.tensor(rows).reshape(-1, 6)
    return {"pred_boxes": table[:, :4], "pred_classes": table[:, 4].long(), "scores": table[:, 5]}


CAT, DOG = (10.0, 10.0, 30.0, 40.0, 0.0, 0.9), (50.0, 10.0, 90.0, 40.0, 1.0, 0.8)


def moved(detection, pixels=0.0, score=0.0, label=0.0):
    return tuple(a + b for a, b in zip(detection, (pixels, 0, pixels, 0, label, score)))


@pytest.mark.parametrize(
    "found, holds",
    [
        ((CAT, DOG), True),
        ((DOG, CAT), True),  # rows do not count
        ((moved(CAT, pixels=0.05), moved(DOG, score=5e-4)), True),
        ((moved(CAT, pixels=0.2), DOG), False),
        ((CAT, moved(DOG, score=0.002)), False),
        ((CAT, moved(DOG, label=1)), False),
        ((CAT, DOG, CAT), False),
        ((CAT,), False),
        ((CAT, moved(DOG, score=math.nan)), False),
    ],
)
def test_detections_are_matched_by_box_and_class(found, holds):
    agreement = Agreement()
    agreement.add(detections(CAT, DOG), detections(*found))
    assert agreement.holds == holds


def test_a_nan_is_not_forgotten():
    agreement = Agreement()
    classes = torch.arange(2)
    for score in (math.nan, 0.5):
        agreement.add(
            {"scores": torch.tensor([0.5, 0.5]), "classes": classes},
            {"scores": torch.tensor([score, 0.5]), "classes": classes},
        )
    assert not agreement.holds and "nan" in agreement.table()


def test_nothing_found_is_nothing_compared():
    agreement = Agreement()
    agreement.add(detections(), detections())
    assert agreement.is_empty and not agreement.holds
    agreement.add(detections(), detections(CAT))
    assert not agreement.is_empty


def test_rounding_may_change_the_order():
    agreement = Agreement()
    agreement.add(
        detections(CAT, moved(DOG, score=0.0999)), detections(moved(CAT, score=-0.0002), moved(DOG, score=0.1))
    )
    assert agreement.holds


def test_empty_boxes_do_not_count():
    """They overlap nothing, not even themselves."""
    agreement = Agreement()
    agreement.add(detections(CAT, (9.0, 9.0, 9.0, 20.0, 1.0, 0.5)), detections(CAT))
    assert agreement.holds


def test_a_detection_at_the_threshold_may_be_absent():
    agreement = Agreement()
    for _ in range(30):
        agreement.add(detections(CAT, DOG), detections(CAT, DOG))
    agreement.add(detections(CAT), detections(CAT, DOG))
    assert agreement.holds and "1 of 123 |" in agreement.table()


def test_something_has_to_be_compared():
    agreement = Agreement()
    agreement.add(detections(), detections())
    assert not agreement.holds


def test_masks_follow_their_detections():
    masks = torch.rand(2, 1, 28, 28)
    agreement = Agreement()
    agreement.add({**detections(CAT, DOG), "pred_masks": masks}, {**detections(DOG, CAT), "pred_masks": masks.flip(0)})
    assert agreement.holds
    agreement.add({**detections(CAT, DOG), "pred_masks": masks}, {**detections(CAT, DOG), "pred_masks": masks.flip(0)})
    assert not agreement.holds


def test_segmentations_and_classes():
    scores = torch.tensor([[[3.0, 1.0]], [[1.0, 3.0]]])  # (2 classes, 1, 2)
    segmentation = Agreement()
    segmentation.add({"sem_seg": scores}, {"sem_seg": scores + 0.0015})
    assert segmentation.holds and "largest difference of sem_seg | 5.0e-04" in segmentation.table()
    segmentation.add({"sem_seg": scores}, {"sem_seg": scores.flip(2)})
    assert not segmentation.holds and "2 of 4 |" in segmentation.table()

    broken = Agreement()
    broken.add({"sem_seg": scores}, {"sem_seg": scores})
    broken.add({"sem_seg": scores}, {"sem_seg": torch.where(scores > 2, math.nan, scores)})
    assert not broken.holds

    # The first two classes have changed places, but not their scores.
    expected = {"classes": torch.tensor([2, 0, 1]), "scores": torch.tensor([0.5001, 0.4999, 0.0])}
    classes = Agreement()
    classes.add(expected, {"classes": torch.tensor([0, 2, 1]), "scores": torch.tensor([0.5, 0.5, 0.0])})
    assert classes.holds
    classes.add(expected, {"classes": torch.tensor([1, 2, 0]), "scores": expected["scores"]})
    assert not classes.holds
