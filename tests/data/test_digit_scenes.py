import hashlib
import importlib.metadata
import importlib.util
import json

import cv2
import numpy as np
import pytest
from cankd.data import DigitScenes, digit_images, register_digit_scenes
from cankd.data.digit_images import TRAIN_DIGITS
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

PINNED = {"numpy": "2.3.5", "Pillow": "13.0.0", "scikit-image": "0.26.0", "scikit-learn": "1.9.1"}


def is_pinned_environment():
    return all(importlib.metadata.version(name) == version for name, version in PINNED.items())


@pytest.mark.skipif(not is_pinned_environment(), reason="the pixels are promised for the pinned environment")
def test_pixels_are_the_same_every_time():
    digest = hashlib.sha256()
    for split in ("train", "val"):
        for index in (0, 7, 299):
            image, semantic, annotations = DigitScenes(split=split, num_images=300).draw(index)
            digest.update(image.tobytes() + semantic.tobytes() + json.dumps(annotations).encode())
    assert digest.hexdigest() == "87c8c5fde932ccf0d30c9fef856af82c911c882c52fd2076fcb8f22a98e149ac"


def test_images_depend_on_seed_split_and_index_alone():
    scenes = DigitScenes(split="train", num_images=5)
    first = scenes.draw(3)[0]
    assert np.array_equal(first, DigitScenes(split="train", num_images=9, seed=0).draw(3)[0])
    for other in (DigitScenes(split="val", num_images=5), DigitScenes(split="train", num_images=5, seed=1)):
        assert not np.array_equal(first, other.draw(3)[0])
    assert not np.array_equal(first, scenes.draw(4)[0])


@pytest.mark.parametrize("split, expected", [("train", range(TRAIN_DIGITS)), ("val", range(TRAIN_DIGITS, 1797))])
def test_train_and_val_share_no_digit(monkeypatch, split, expected):
    images, classes = digit_images._load_digits()
    used = Recorder(images)
    monkeypatch.setattr(digit_images, "_load_digits", lambda: (used, classes))
    scenes, rng = DigitScenes(split=split, num_images=1), np.random.default_rng(0)
    for _ in range(20000):
        scenes._draw_digit(rng)
    assert used.indices == set(expected)


class Recorder:
    """A sequence that remembers which items were asked for."""

    def __init__(self, items):
        self.items, self.indices = items, set()

    def __getitem__(self, index):
        self.indices.add(index)
        return self.items[index]


def test_annotations_fit_the_semantic_mask():
    scenes = DigitScenes(split="train", num_images=20, image_size=128, digit_sizes=(20, 50))
    sizes, counts = [], set()
    for index in range(20):
        image, semantic, annotations = scenes.draw(index)
        assert image.shape == (128, 128, 3) and image.dtype == semantic.dtype == np.uint8
        assert sum(a["area"] for a in annotations) == (semantic > 0).sum()
        counts.add(len(annotations))
        for annotation in annotations:
            x, y, w, h = annotation["bbox"]
            window = semantic[y : y + h, x : x + w] == annotation["category_id"]
            assert window.sum() == annotation["area"]
            assert all(edge.any() for edge in (window[0], window[-1], window[:, 0], window[:, -1]))
            sizes.append(max(w, h))
            filled = np.zeros_like(semantic)
            for polygon in annotation["segmentation"]:
                points = np.floor(np.array(polygon).reshape(-1, 2)).astype(np.int32)
                cv2.fillPoly(filled, [points], 1)
            assert filled[y : y + h, x : x + w][window].all() and filled.sum() == filled[y : y + h, x : x + w].sum()
    assert 20 * 0.5 < min(sizes) and max(sizes) <= 50 and counts <= {1, 2, 3, 4, 5} and len(counts) > 2


def test_registered_records(tiny_scenes):
    records = DatasetCatalog.get(tiny_scenes[1])
    metadata = MetadataCatalog.get(tiny_scenes[1])
    assert len(records) == 6 and metadata.thing_classes == [str(i) for i in range(10)]
    assert len(metadata.stuff_classes) == len(metadata.stuff_colors) == 11
    for record in records:
        mask = cv2.imread(record["sem_seg_file_name"], cv2.IMREAD_UNCHANGED)
        assert cv2.imread(record["file_name"]).shape == (160, 160, 3) and mask.shape == (160, 160)
        assert {a["category_id"] + 1 for a in record["annotations"]} == set(np.unique(mask)) - {0}
        assert all(a["bbox_mode"] == BoxMode.XYWH_ABS and a["segmentation"] for a in record["annotations"])


def test_is_built_once_and_whole(tmp_path, monkeypatch):
    folder = tmp_path / "scenes"
    scenes = DigitScenes(split="val", num_images=4)

    def fail(self, index):
        if index == 2:
            raise KeyboardInterrupt
        return draw(self, index)

    draw = DigitScenes.draw
    with monkeypatch.context() as patch:
        patch.setattr(DigitScenes, "draw", fail)
        with pytest.raises(KeyboardInterrupt):
            scenes.build(str(folder))
    assert not folder.exists()
    scenes.build(str(folder))
    assert len(list((folder / "images").iterdir())) == 4 and not list(tmp_path.glob("*.unfinished"))
    monkeypatch.setattr(DigitScenes, "draw", lambda *_: pytest.fail("drawn again"))
    scenes.build(str(folder))
    with pytest.raises(ValueError, match="'num_images': 4.*, but .*'num_images': 5.* is asked for: remove the folder"):
        DigitScenes(split="val", num_images=5).build(str(folder))
    assert PathManager.isfile(str(folder / "annotations.json"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "test"}, "split is 'test'; it has to be one of"),
        ({"num_images": 0}, "num_images=0 has to be at least 1"),
        ({"max_digits": 0}, "max_digits=0 has to be at least 1"),
        ({"digit_sizes": (4, 20)}, r"digit_sizes=\(4, 20\) has to be 8 <= smallest"),
        ({"image_size": 64}, r"largest <= image_size=64"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DigitScenes(**{"split": "train", "num_images": 1, **arguments})


def test_says_which_package_is_absent(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find_spec(name))
    with pytest.raises(ValueError, match=r"scikit-learn ships, and it is not installed: pip install 'cankd\[demo\]'"):
        DigitScenes(split="val", num_images=1).build(str(tmp_path / "scenes"))
    assert not (tmp_path / "scenes").exists()


def test_the_folder_of_data_sets_may_begin_with_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    register_digit_scenes("scenes_at_home", DigitScenes(split="val", num_images=1))
    try:
        assert MetadataCatalog.get("scenes_at_home").json_file == str(
            tmp_path / "data" / "scenes_at_home" / "annotations.json"
        )
    finally:
        DatasetCatalog.remove("scenes_at_home")
        MetadataCatalog.remove("scenes_at_home")
