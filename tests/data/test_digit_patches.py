import numpy as np
import pytest
from cankd.data import DigitPatches, load_records
from detectron2.config import LazyCall as L
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts


def test_a_digit_lies_in_the_middle_of_a_noisy_photograph():
    clean = dict(split="train", num_images=30, opacities=(1, 1), noise=(0, 0), digit_sizes=(40, 40))
    patches = DigitPatches(**clean)
    background = DigitPatches(**{**clean, "opacities": (0, 0)})
    changed = np.zeros((112, 112), bool)
    for index in range(30):
        image, digit = patches.draw(index)
        assert image.shape == (112, 112, 3) and image.dtype == np.uint8 and digit == index % 10
        changed |= (image != background.draw(index)[0]).any(2)
    rows, columns = changed.any(1).nonzero()[0], changed.any(0).nonzero()[0]
    assert rows.min() == 36 and rows.max() == columns.max() == 75 and 36 <= columns.min() <= 40
    noisy = DigitPatches(**{**clean, "noise": (20, 20)}).draw(0)[0].astype(float) - patches.draw(0)[0]
    assert 12 < noisy.std() < 21


def test_images_depend_on_seed_split_and_index_alone():
    first = DigitPatches(split="train", num_images=10).draw(3)[0]
    assert np.array_equal(first, DigitPatches(split="train", num_images=99).draw(3)[0])
    for other in (DigitPatches(split="val", num_images=10), DigitPatches(split="train", num_images=10, seed=1)):
        assert not np.array_equal(first, other.draw(3)[0])


def test_registered_records(tiny_patches):
    records = load_records(L(get_detection_dataset_dicts)(names=tiny_patches[0]))
    assert [record["label"] for record in records] == 2 * list(range(10))
    assert records[13]["file_name"].endswith("/3/000013.png")
    assert MetadataCatalog.get(tiny_patches[0]).image_classes == [str(digit) for digit in range(10)]
    load_records(L(get_detection_dataset_dicts)(names=tiny_patches[0]))  # it knows its folder again


def test_needs_an_image_of_each_class():
    with pytest.raises(ValueError, match="num_images=9 has to be at least 10, one a class"):
        DigitPatches(split="val", num_images=9)
