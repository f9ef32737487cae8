import copy

import numpy as np
import pycocotools.mask
import pytest
from cankd.data.annotation_checks import _run_lengths, check_annotations, without_broken_shapes
from cankd.data.checks import check_records
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode

POLYGON = [[1, 1, 5, 1, 5, 5]]


def make_records(boxes=((10, 10, 20, 20), (60, 50, 30, 30)), mode=BoxMode.XYWH_ABS, **annotation):
    """Returns one image of 100×80 pixels for each box."""
    return [
        {
            "file_name": f"{i}.jpg",
            "image_id": i,
            "width": 100,
            "height": 80,
            "annotations": [{"bbox": list(box), "bbox_mode": mode, "category_id": 0, **annotation}],
        }
        for i, box in enumerate(boxes)
    ]


@pytest.mark.parametrize(
    "records",
    [
        make_records(),
        make_records([(0, 0, 0, 5), (99, 0, 2.5, 80)]),  # no area, or over the edge by rounding
        make_records([(10, 10, 20, 20)], BoxMode.XYXY_ABS, segmentation=POLYGON, keypoints=[1, 2, 2]),
        make_records(keypoints=None),
        make_records([(10, 10, 20, 20, 45)], BoxMode.XYWHA_ABS),
        [{"file_name": "0.jpg"}, {"file_name": "1.jpg", "annotations": []}],
    ],
)
def test_sound_records_stay_as_they_are(records):
    before = copy.deepcopy(records)
    assert check_annotations(records, "mine.json") is records == before


@pytest.mark.parametrize(
    "change, message",
    [
        ({"bbox": [float("nan"), 0, 5, 5]}, r"boxes with NaN or infinity: 1, the first is \[nan, 0, 5, 5\] in 1.jpg"),
        ({"bbox": [0, 0, float("inf"), 5]}, "boxes with NaN or infinity"),
        ({"bbox": [5, 5, -3, 5]}, r"boxes of negative size: 1, the first is \[5, 5, -3, 5\]"),
        ({"bbox": [80, 5, 40, 5]}, r"boxes outside the image: 1, the first is \[80, 5, 40, 5\] of 100×80 pixels"),
        ({"bbox": [1, 2, 3]}, r"boxes that are not 4 numbers: 1, the first is \[1, 2, 3\]"),
        ({"bbox": "1,2,3,4"}, "boxes that are not 4 numbers"),
        ({"bbox": [0, 0, "5", 5]}, "boxes that are not 4 numbers"),
        ({"bbox": None}, "annotations without a box"),
        ({"bbox_mode": None}, "boxes of another mode"),
        ({"category_id": None}, "classes that are no number from 0 on .category_id.: 1, the first is None"),
        ({"category_id": -1}, "classes that are no number from 0 on"),
        ({"iscrowd": 0.5}, "marks of a crowd that are not 0 or 1 .iscrowd.: 1, the first is 0.5"),
        ({"keypoints": [1, 2]}, "keypoints that are no triples"),
        ({"keypoints": 7}, "keypoints that are no triples"),
        ({"keypoints": [1, 2, float("nan")]}, "keypoints that are no triples"),
        ({"segmentation": [[1, 1, 5, 1]]}, r"polygons that are not three or more pairs .* \[1, 1, 5, 1\]"),
        ({"segmentation": [[1, 1, 5, 1, 5, float("nan")]]}, "polygons that are not"),
        ({"segmentation": [[1, 1, 5, 1, 1e30, 5]]}, r"polygons far outside the image.* of 100×80 pixels"),
        ({"segmentation": []}, "masks without a polygon"),
        ({"segmentation": None}, r"annotations without a mask .*use_instance_mask=False, .* MODEL.MASK_ON=False\): 1"),
        ({"segmentation": {"size": None, "counts": b""}}, "RLE masks without a height and a width: 1, .* size None"),
        ({"segmentation": {"size": [5, 5], "counts": b""}}, "RLE masks of another size .* 5×5 instead of 100×80"),
        ({"segmentation": {"size": [80, 100], "counts": b"zzzz"}}, "RLE masks that cannot be decoded"),
    ],
)
def test_each_fault_is_one_line_or_is_left_out(change, message, caplog):
    records = make_records()
    records[0]["annotations"][0]["segmentation"] = POLYGON
    records[1]["annotations"][0] |= {"segmentation": POLYGON, **change}
    with pytest.raises(ValueError, match=f"mine.json has annotations that cannot be used:\n  .*{message}") as error:
        check_annotations(records, "mine.json", masks="bitmask")
    assert "train.skip_broken=True" in str(error.value)
    kept = check_annotations(records, "mine.json", masks="bitmask", skip_broken=True)
    assert [len(record["annotations"]) for record in kept] == [1, 0] and len(records[1]["annotations"]) == 1
    assert "mine.json is used without what is broken" in caplog.text


def test_what_is_needed_cannot_be_skipped():
    with pytest.raises(ValueError, match="boxes of negative size: 1, .*\nMend them$"):
        check_annotations(make_records([(5, 5, -3, 5)]), "mine.json", skip_broken=None)


def test_what_would_leave_nothing_is_not_offered():
    with pytest.raises(ValueError, match="annotations without a mask .*: 2, .*\nMend them$"):
        check_annotations(make_records(), "mine.json", masks="polygon")


def test_broken_masks_and_keypoints_are_not_drawn():
    sound = {"bbox": [0, 0, 5, 5], "segmentation": POLYGON, "keypoints": [1, 2, 2]}
    assert without_broken_shapes(sound, 100, 80) == sound
    for broken in ({"segmentation": [[1, 1]], "keypoints": [1]}, {"segmentation": [], "keypoints": "x"}):
        assert without_broken_shapes({**sound, **broken}, 100, 80) == {"bbox": [0, 0, 5, 5]}


def test_masks_are_looked_at_only_where_they_are_used():
    records = make_records(segmentation=[[1, 1]])
    assert check_annotations(records, "mine.json") is records


def test_faults_of_one_kind_share_a_line():
    with pytest.raises(ValueError, match=r"boxes of negative size: 2, the first is .* in 0.jpg") as error:
        check_annotations(make_records([(5, 5, -3, 5), (5, 5, 3, -5), (0, 0, np.nan, 1)]), "mine.json")
    assert str(error.value).count("\n") == 3


def test_a_mask_of_pycocotools_is_sound():
    mask = np.zeros((80, 100), np.uint8, order="F")
    mask[3:9, 3:9] = 1
    assert check_annotations(make_records(segmentation=pycocotools.mask.encode(mask)), "mine.json", masks="bitmask")


def test_image_ids_that_stand_twice(caplog):
    records = make_records()
    records[1]["image_id"] = 0
    with pytest.raises(ValueError, match=r"image ids that stand twice: 1, the first is 0 \(0.jpg and 1.jpg\)"):
        check_annotations(records, "mine.json")
    assert check_annotations(records, "mine.json", skip_broken=True) == records[:1]
    assert check_annotations(records, "mine.json", unique_ids=False) == records


@pytest.mark.parametrize("width", [[100, 100], "100", 0, -5, None, float("nan")])
def test_images_of_no_size(width):
    records = make_records()
    records[1]["width"] = width
    with pytest.raises(
        ValueError, match="images whose width or height is no positive number: 1, the first is .* of 1."
    ):
        check_annotations(records, "mine.json")
    assert check_annotations(records, "mine.json", skip_broken=True) == records[:1]


def test_boxes_within_0_and_1_are_no_pixels():
    with pytest.raises(ValueError, match="all 2 boxes of mine.json are within 0 and 1, .* Multiply them"):
        check_annotations(make_records([(0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1)]), "mine.json", skip_broken=True)


def test_corners_written_as_width_and_height():
    with pytest.raises(ValueError, match=r"1 of the 2 boxes .* the first is \[60.0, 50.0, 90.0, 75.0\]. .*be corners"):
        check_annotations(make_records([(10, 10, 20, 20), (60, 50, 90, 75)]), "mine.json", skip_broken=True)


def test_runs_of_masks_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for fill in (0, 0.001, 0.1, 0.5, 0.9, 1):
        mask = np.asfortranarray(rng.random((90, 70)) < fill, np.uint8)
        runs = _run_lengths(pycocotools.mask.encode(mask)["counts"])
        assert np.repeat(np.arange(len(runs)) % 2, runs).tolist() == mask.ravel("F").tolist()


def test_an_rle_mask_where_polygons_are_read():
    mask = pycocotools.mask.encode(np.ones((80, 100), np.uint8, order="F"))
    records = make_records(segmentation=mask)
    with pytest.raises(ValueError, match="RLE masks, where .*instance_mask_format is 'polygon' .set it to 'bitmask'"):
        check_annotations(records, "mine.json", masks="polygon")
    records[0]["annotations"][0]["iscrowd"] = 1  # the mapper leaves a crowd out
    assert check_annotations(records[:1], "mine.json", masks="polygon") == records[:1]


def test_an_rle_mask_is_no_fault_where_images_are_evaluated():
    records = make_records(segmentation=pycocotools.mask.encode(np.ones((80, 100), np.uint8, order="F")))
    options = {"augmentations": [], "image_format": "BGR", "use_instance_mask": True}
    for is_train in (False, True):
        mapper = DatasetMapper(is_train=is_train, **options)
        with pytest.raises(ValueError, match="RLE masks" if is_train else "images that cannot be used"):
            check_records(records, {}, mapper, skip_broken=None)
