import copy

import pytest
from cankd.data import check_coco, check_keypoints, complete_keypoints

CONTENTS = {
    "images": [{"id": 3}, {"id": 4}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 1, "area": 2.5},
        {"id": 2, "image_id": 4, "category_id": 1},
    ],
    "categories": [{"id": 1, "name": "zero"}],
}


def test_sound_files_pass():
    check_coco(CONTENTS, "mine.json")
    check_coco({"images": [{"id": 0}], "categories": []}, "test-dev.json")


def test_what_is_left_out_is_warned_of(caplog):
    check_coco(CONTENTS, "mine.json")
    assert "mine.json: 1 of 2 annotations have no 'area'" in caplog.text
    check_coco({"images": [{"id": 0}], "categories": []}, "test-dev.json")
    assert "test-dev.json has no annotations: predictions are written" in caplog.text


def test_an_area_larger_than_the_image_is_refused():
    contents = copy.deepcopy(CONTENTS)
    contents["images"][0].update(width=2, height=1)
    with pytest.raises(ValueError, match="mine.json has an annotation, 1, whose 'area' is 2.5, .* has 2 pixels"):
        check_coco(contents, "mine.json")


@pytest.mark.parametrize(
    "part, key, value, message",
    [
        ("images", "id", 0.5, "1 of 2 images whose 'id' is not a whole number, .* the first is 0.5"),
        ("images", "id", 3, "has the id 3 in 'images' twice"),
        ("annotations", "id", "2", "1 of 2 annotations whose 'id' is not a whole number"),
        ("annotations", "id", 1, "has the id 1 in 'annotations' twice"),
        ("annotations", "image_id", None, "whose 'image_id' is not a whole number"),
        ("annotations", "area", [1], "whose 'area' is not a number, at least 0"),
        ("annotations", "area", float("nan"), "whose 'area' is not a number, at least 0"),
        ("categories", "name", {}, "1 of 1 categories whose 'name' is not a text"),
    ],
)
def test_what_an_evaluator_stumbles_over_is_named(part, key, value, message):
    contents = copy.deepcopy(CONTENTS)
    contents[part][-1][key] = value
    with pytest.raises(ValueError, match=f"mine.json .*{message}"):
        check_coco(contents, "mine.json")


def test_entries_are_objects():
    with pytest.raises(ValueError, match="mine.json has entries in 'images' that are no objects"):
        check_coco({**CONTENTS, "images": [3]}, "mine.json")


def test_objects_have_the_same_keypoints():
    contents = {"annotations": [{"keypoints": [1, 2, 2] * 3}, {"keypoints": []}, {}]}
    check_keypoints(contents, "mine.json")
    for broken in ([1, 2, 2], "nose", [1, 2] * 3 + [1]):
        with pytest.raises(ValueError, match="mine.json has 'keypoints' of other lengths .*1 with 9"):
            check_keypoints({"annotations": [*contents["annotations"], {"keypoints": broken}]}, "mine.json")


def test_what_an_evaluator_reads_of_keypoints_is_completed():
    annotations = [{"keypoints": [5, 5, 2, 6, 6, 0, 7, 7, 1], "bbox": [0, 0, 4, 3]}, {"area": 7, "iscrowd": 1}]
    complete_keypoints(annotations, 9)
    assert annotations[0] | {"num_keypoints": 2, "iscrowd": 0, "area": 12} == annotations[0]
    assert annotations[1] == {"area": 7, "iscrowd": 1, "keypoints": [0] * 9, "num_keypoints": 0}
