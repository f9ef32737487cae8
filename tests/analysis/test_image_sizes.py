import detectron2.data.transforms as T
import pytest
from cankd.analysis.image_sizes import find_training_sizes
from cankd.data import CenterCrop, RandomResizedCrop
from detectron2.config import LazyCall as L
from detectron2.data import DatasetMapper
from PIL import Image

SIZES = [(100, 200), (200, 100), (50, 300), (400, 400), (100, 100)]
RECORDS = [{"file_name": f"{i}.jpg", "height": h, "width": w} for i, (h, w) in enumerate(SIZES)]


def sizes(*augmentations, records=RECORDS):
    return find_training_sizes(
        records, L(DatasetMapper)(is_train=True, augmentations=list(augmentations), image_format="BGR")
    )


def test_sizes_as_they_are():
    found = sizes()
    assert found.at_least == SIZES
    assert (found.smallest, found.smallest_file) == ((50, 300), "2.jpg")  # the shortest side counts
    assert (found.median, found.largest) == ((100, 200), (400, 400))  # by area


def test_sizes_after_a_random_resize():
    found = sizes(L(T.ResizeShortestEdge)(short_edge_length=[50, 60, 100], max_size=250, sample_style="choice"))
    assert found.at_least == [(50, 100), (100, 50), (42, 250), (50, 50), (50, 50)]
    assert (found.smallest, found.median, found.largest) == ((42, 250), (60, 120), (100, 200))


@pytest.mark.parametrize(
    "augmentation, expected",
    [
        (L(T.Resize)(shape=(64, 96)), [(64, 96)] * 5),
        (
            L(T.RandomCrop)(crop_type="absolute", crop_size=(80, 150)),
            [(80, 150), (80, 100), (50, 150), (80, 150), (80, 100)],
        ),
        (
            L(T.RandomCrop)(crop_type="relative", crop_size=(0.5, 0.5)),
            [(50, 100), (100, 50), (25, 150), (200, 200), (50, 50)],
        ),
        (
            L(T.RandomCrop)(crop_type="relative_range", crop_size=(0.5, 0.5)),
            [(50, 100), (100, 50), (25, 150), (200, 200), (50, 50)],
        ),
        (
            L(T.RandomCrop)(crop_type="absolute_range", crop_size=(60, 150)),
            [(60, 60), (60, 60), (50, 60), (60, 60), (60, 60)],
        ),
        (L(T.ResizeShortestEdge)(short_edge_length=0), SIZES),
        (
            L(T.RandomCrop_CategoryAreaConstraint)(crop_type="absolute", crop_size=(80, 150)),
            [(80, 150), (80, 100), (50, 150), (80, 150), (80, 100)],
        ),
        (L(T.FixedSizeCrop)(crop_size=(80, 150)), [(80, 150)] * 5),
        (L(T.FixedSizeCrop)(crop_size=(80, 150), pad=False), [(80, 150), (80, 100), (50, 150), (80, 150), (80, 100)]),
        (
            L(T.ResizeScale)(min_scale=0.5, max_scale=2.0, target_height=200, target_width=200),
            [(50, 100), (100, 50), (17, 100), (100, 100), (100, 100)],
        ),
        (L(RandomResizedCrop)(size=32), [(32, 32)] * 5),
        (L(CenterCrop)(size=32), [(32, 32)] * 5),
        (L(T.RandomFlip)(), SIZES),
    ],
)
def test_sizes_after_each_augmentation(augmentation, expected):
    assert sizes(augmentation).at_least == expected


def test_a_crop_of_a_random_size_may_leave_the_image_whole():
    assert sizes(L(T.RandomCrop)(crop_type="relative_range", crop_size=(0.5, 0.5))).largest == (400, 400)


def test_headers_are_read_where_records_do_not_say(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # by 90°
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg", exif=turned)
    records = [{"file_name": str(tmp_path / name)} for name in ("a.jpg", "b.jpg")]
    assert sizes(records=[records[0], RECORDS[0], records[1]]).at_least == [(20, 30), (100, 200), (30, 20)]
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(ValueError, match="a.jpg cannot be read as an image"):
        sizes(records=records)
