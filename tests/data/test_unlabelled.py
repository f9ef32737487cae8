import os

import detectron2.data.transforms as T
import numpy as np
import pytest
from cankd.data import UnlabelledMapper, load_unlabelled, register_subset
from cankd.utils import UserError
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from PIL import Image

SIZE_AND_NAME = {"file_name", "image_id", "height", "width"}


def write_image(path, size=(30, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def mapper(*augmentations):
    return UnlabelledMapper(DatasetMapper(is_train=True, augmentations=augmentations, image_format="BGR"))


def test_every_image_in_and_below_a_folder_counts(tmp_path):
    for name in ("b.PNG", "a.jpg", "deep/er/c.webp", "notes.txt", ".thumbnails/a.jpg", "deep/._c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()  # no images, as nobody opens them
    names = "a.jpg", "b.PNG", "deep/er/c.webp"
    assert load_unlabelled(str(tmp_path)) == [{"file_name": str(tmp_path / name)} for name in names]


def test_annotations_of_a_data_set_are_left_out(tiny_scenes, tmp_path):
    (tmp_path / "a.jpg").touch()
    records = load_unlabelled([tiny_scenes[1], str(tmp_path)])
    assert len(records) == 7 and records[-1] == {"file_name": str(tmp_path / "a.jpg")}
    assert all(record.keys() == SIZE_AND_NAME for record in records[:-1])


@pytest.mark.parametrize(
    "name, message",
    [
        ("tiny_scenes_tarin", "'tiny_scenes_tarin' is neither .*; did you mean tiny_scenes_train"),
        ("", "neither a registered data set nor a folder of images; registered are .*tiny_scenes_val"),
    ],
)
def test_what_is_neither_data_set_nor_folder_is_refused(tiny_scenes, name, message):
    with pytest.raises(UserError, match=message):
        load_unlabelled(name)


def test_folders_and_data_sets_without_images_are_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=rf"there is no image \(.jpg, .*\) in {tmp_path}"):
        load_unlabelled(str(tmp_path))
    DatasetCatalog.register("empty", list)
    try:
        with pytest.raises(UserError, match="the data set empty has no images"):
            load_unlabelled("empty")
    finally:
        DatasetCatalog.remove("empty")


def test_folders_that_cannot_be_read_are_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    write_image(tmp_path / "a.png")
    (tmp_path / "lost+found").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert len(load_unlabelled(str(tmp_path))) == 1
    assert "lost+found is left out: Permission denied" in caplog.text


def test_linked_folders_are_looked_into_once(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()
    root.mkdir()
    write_image(elsewhere / "a.png")
    for name in ("first", "second"):
        (root / name).symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    assert [record["file_name"] for record in load_unlabelled(str(root))] == [str(root / "second" / "a.png")]


def test_a_part_keeps_its_annotations_only_if_it_is_labelled(tiny_scenes):
    whole = DatasetCatalog.get(tiny_scenes[0])
    register_subset("first", tiny_scenes[0], stop=5)
    register_subset("others", tiny_scenes[0], start=5, labelled=False)
    try:
        first, others = DatasetCatalog.get("first"), DatasetCatalog.get("others")
        assert first == whole[:5]
        assert [r["file_name"] for r in others] == [r["file_name"] for r in whole[5:]]
        assert all(record.keys() == SIZE_AND_NAME for record in others)
        assert MetadataCatalog.get("first").thing_classes == MetadataCatalog.get(tiny_scenes[0]).thing_classes
        assert MetadataCatalog.get("first").image_ids == [record["image_id"] for record in whole[:5]]
        assert MetadataCatalog.get("others").image_ids == [record["image_id"] for record in whole[5:]]
        register_subset("none", "first", start=5)
        assert DatasetCatalog.get("none") == []
        register_subset("second", "first", start=1, stop=2)  # a part of a part
        assert DatasetCatalog.get("second") == whole[1:2]
        assert MetadataCatalog.get("second").image_ids == [whole[1]["image_id"]]
    finally:
        for name in ("first", "others", "second", "none"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_images_are_augmented_as_labelled_ones_and_marked(tmp_path):
    record = {"file_name": write_image(tmp_path / "a.png")}
    augmentations = T.ResizeShortestEdge([40], 100, "choice"), T.RandomFlip(prob=1.0)
    expected = DatasetMapper(is_train=True, augmentations=augmentations, image_format="BGR")(record)
    found = mapper(*augmentations)(record)
    assert (found["image"] == expected["image"]).all() and found["image"].shape == (3, 40, 60)
    assert found.keys() == {"file_name", "height", "width", "image", "unlabelled"} and found["unlabelled"] is True
    assert (found["height"], found["width"]) == (20, 30)


def test_loaders_group_by_a_size_that_mappers_may_leave_out(tmp_path):
    found = UnlabelledMapper(lambda record: {"image": np.zeros((3, 4, 6))})(
        {"file_name": write_image(tmp_path / "a.png")}
    )
    assert (found["height"], found["width"]) == (4, 6)


def test_crops_do_without_masks(tmp_path):
    crop = T.RandomCrop_CategoryAreaConstraint("absolute", (16, 16), single_category_max_area=0.5)
    given = DatasetMapper(is_train=True, augmentations=[crop], image_format="BGR")
    found = UnlabelledMapper(given)({"file_name": write_image(tmp_path / "a.png")})
    assert found["image"].shape == (3, 16, 16)
    assert given.augmentations.augs == [crop]  # the labelled images' are as they were


def test_images_that_cannot_be_used_are_named(tmp_path):
    broken = tmp_path / "broken.png"
    write_image(broken)
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(UserError, match="broken.png cannot be read as an image; it may be cut off"):
        mapper()({"file_name": str(broken)})
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match="deep.png has pixels of mode I;16"):
        mapper()({"file_name": str(tmp_path / "deep.png")})
