import json
import pathlib
import types

import cv2
import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from cankd.data import register_datasets
from cankd.data.checks import check_classes, check_crops, check_masks, check_records, check_targets
from cankd.data.records import load_records
from cankd.modeling.meta_arch import SemSegHead
from cankd.utils import UserError
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from omegaconf import OmegaConf

from tests.tiny import DETECTORS, detector


@pytest.fixture
def coco_files(tmp_path):
    """Registers a COCO-format data set of two images and returns its annotation file and image root."""
    contents = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 8, "height": 8} for i in range(2)],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 3, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
            for i in range(2)
        ],
        "categories": [{"id": 3, "name": "thing"}],
    }
    json_file, root = tmp_path / "annotations.json", tmp_path / "images"
    json_file.write_text(json.dumps(contents))
    root.mkdir()
    for i in range(2):
        (root / f"{i}.jpg").touch()
    register_coco_instances("two_images", {}, str(json_file), str(root))
    yield json_file, root
    DatasetCatalog.remove("two_images")
    MetadataCatalog.remove("two_images")


def load(names="two_images"):
    return load_records(L(get_detection_dataset_dicts)(names=names))


def test_loads_a_sound_data_set(coco_files):
    assert len(load()) == 2


def test_paths_may_have_no_folder(tmp_path, monkeypatch):
    def load_here():
        return [{"file_name": "0.jpg"}]

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="names 1 files that do not exist"):
        load_records(L(load_here)())
    (tmp_path / "0.jpg").touch()
    assert load_records(L(load_here)()) == [{"file_name": "0.jpg"}]


def test_paths_may_be_path_objects(tiny_scenes):
    def load_with_paths(filter_empty=False):
        return [{**record, "file_name": pathlib.Path(record["file_name"])} for record in load(tiny_scenes[1])]

    assert load_records(L(load_with_paths)()) == load(tiny_scenes[1])


def test_a_file_registers_data_once_however_it_is_called(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from detectron2.data import DatasetCatalog\nDatasetCatalog.register('mine', list)"
    )
    monkeypatch.chdir(tmp_path)
    try:
        for path in ("mine.py", "./mine.py", str(tmp_path / "mine.py")):
            register_datasets(path)
    finally:
        DatasetCatalog.remove("mine")


def test_images_of_several_sets_may_have_the_same_ids(tiny_scenes):
    mapper = DatasetMapper(is_train=True, augmentations=[], image_format="BGR")
    both = L(get_detection_dataset_dicts)(names=list(tiny_scenes))
    records = load(list(tiny_scenes))
    assert len(check_records(records, both, mapper)) == len(records) == 30
    with pytest.raises(ValueError, match="image ids that stand twice: 6"):
        check_records(records, both, mapper, skip_broken=None)


@pytest.mark.parametrize("mark", [None, "x", -7, [1]])
def test_a_broken_mark_of_a_crowd_does_not_hide_its_image(coco_files, mark):
    """Detectron2 leaves out images with nothing but crowds; what it takes for one has to reach the checks."""
    contents = json.loads(coco_files[0].read_text())
    contents["annotations"][1]["iscrowd"] = mark
    coco_files[0].write_text(json.dumps(contents))
    assert [record["image_id"] for record in load()] == [0, 1]


def test_images_of_crowds_alone_are_left_out(coco_files):
    contents = json.loads(coco_files[0].read_text())
    contents["annotations"][1]["iscrowd"] = 1
    del contents["annotations"][0]["iscrowd"]  # which is none, then
    coco_files[0].write_text(json.dumps(contents))
    assert [record["image_id"] for record in load()] == [0]
    contents["annotations"][0]["iscrowd"] = 1
    coco_files[0].write_text(json.dumps(contents))
    with pytest.raises(UserError, match="annotations.json cannot be used .*no image has an annotation"):
        load()


def test_refuses_classes_without_names(coco_files):
    contents = json.loads(coco_files[0].read_text())
    contents["categories"][0]["name"] = ["thing", "thing"]
    coco_files[0].write_text(json.dumps(contents))
    with pytest.raises(
        UserError, match=r"annotations.json has 1 of 1 classes whose name is no text; the first is \['th"
    ):
        load()


def test_refuses_an_unregistered_data_set():
    with pytest.raises(ValueError, match="no data set is registered as 'nowhere'.*register_coco_instances"):
        load("nowhere")


def test_refuses_a_number_as_a_name():
    with pytest.raises(UserError, match="names are 7, and have to be a name or a list of names"):
        load(7)


def test_refuses_absent_annotations(coco_files):
    coco_files[0].unlink()
    with pytest.raises(ValueError, match="annotations.json is absent; the data set two_images needs it"):
        load()


@pytest.mark.parametrize("contents", [b"", b'{"images": [', b"no json", b"\xff\xd8\xff\xe0 a picture"])
def test_refuses_what_is_not_json(coco_files, contents):
    coco_files[0].write_bytes(contents)
    with pytest.raises(ValueError, match="annotations.json is not JSON, or is cut off"):
        load()


@pytest.mark.parametrize("contents", ["[]", "{}", '{"images": [], "annotations": [{}], "categories": []}'])
def test_refuses_what_is_not_coco(coco_files, contents):
    coco_files[0].write_text(contents)
    with pytest.raises(ValueError, match="annotations.json cannot be used .* has to be in COCO format"):
        load()


def test_refuses_a_folder_and_a_set_without_annotations(coco_files):
    contents = json.loads(coco_files[0].read_text())
    coco_files[0].write_text(json.dumps({**contents, "annotations": []}))
    with pytest.raises(ValueError, match="cannot be used .*no image has an annotation.* and annotated images"):
        load()
    coco_files[0].unlink()
    coco_files[0].mkdir()
    with pytest.raises(ValueError, match="annotations.json cannot be used .IsADirectoryError"):
        load()


def test_names_missing_images(coco_files):
    (coco_files[1] / "1.jpg").unlink()
    with pytest.raises(ValueError, match="names 1 files that do not exist, for 2 images; the first is .*images/1.jpg"):
        load()


class Trouble(Exception):
    """A user's own."""


def fails_by_index():
    return [][1]


def fails_by_an_error_of_its_own():
    raise Trouble("no images today")


def fails_by_an_absent_package():
    import no_such_package  # noqa: F401


def fails_by_an_absent_file():
    open("absent.csv")


@pytest.mark.parametrize(
    "function, message",
    [
        (fails_by_index, r"mine cannot be used \(IndexError: list index out of range"),
        (fails_by_an_error_of_its_own, r"mine cannot be used \(Trouble: no images today"),
        (fails_by_an_absent_package, r"mine is read by the package no_such_package, which is not installed \("),
        (fails_by_an_absent_file, r"absent.csv is absent; the data set mine needs it \(FileNotFoundError"),
    ],
)
def test_a_registered_function_that_fails_is_placed(function, message):
    DatasetCatalog.register("mine", function)
    line = function.__code__.co_firstlineno + 1
    try:
        with pytest.raises(ValueError, match=f"{message}.*{__file__}, line {line}"):
            load("mine")
    finally:
        DatasetCatalog.remove("mine")


def test_a_users_error_stays_as_it_is():
    def refuse():
        raise UserError("buy a disk")

    DatasetCatalog.register("mine", refuse)
    try:
        with pytest.raises(UserError, match="^buy a disk$"):
            load("mine")
    finally:
        DatasetCatalog.remove("mine")


@pytest.mark.parametrize("kind", DETECTORS)
def test_classes_have_to_fit(kind):
    model = detector(kind)
    check_classes([{"annotations": [{"category_id": 9}]}, {"annotations": []}], model)
    with pytest.raises(ValueError, match="the data has 11 classes, but the model predicts 10"):
        check_classes([{"annotations": [{"category_id": 10}]}], model)


def test_a_model_of_more_classes_than_the_data_is_warned_of(tiny_scenes, caplog):
    model = detector("retinanet")
    records = [{"annotations": [{"category_id": 3}]}]
    check_classes(records, model, tiny_scenes)
    assert not caplog.text
    model.num_classes = 80
    check_classes(records, model, tiny_scenes)
    assert "The data has 10 classes, and the model predicts 80" in caplog.text


@pytest.fixture
def masked(tmp_path):
    """Returns two records with masks of 4×6, a head of 3 classes, and the path of the second mask."""
    records = []
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"mask{i}.png"), np.full((4, 6), i, np.uint8))
        records.append({"file_name": f"{i}.jpg", "sem_seg_file_name": str(tmp_path / f"mask{i}.png")})
        records[-1].update(height=4, width=6)
    head = SemSegHead(in_feature="res5", stride=8, context=torch.nn.Identity(), context_channels=4, num_classes=3)
    return records, head, tmp_path / "mask1.png"


def test_masks_that_fit(masked):
    records, head, path = masked
    cv2.imwrite(str(path), np.array([[0, 1, 2, 255, 0, 0]] * 4, np.uint8))
    check_masks(records, head)


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.full((4, 6), 3, np.uint8), r"mask1.png has the labels \[3\]; the model knows 0 to 2, and 255 for"),
        (np.zeros((6, 4), np.uint8), "mask1.png is 6×4, but its image is 4×6"),
        (np.zeros((4, 6, 3), np.uint8), "mask1.png is not a PNG of one channel"),
        (np.zeros((4, 6), np.uint16), "mask1.png is not a PNG of one channel with 8 bits"),
    ],
)
def test_masks_that_do_not_fit(masked, mask, message):
    records, head, path = masked
    cv2.imwrite(str(path), mask)
    with pytest.raises(ValueError, match=message):
        check_masks(records, head)


def test_masks_that_are_broken_or_not_named(masked):
    records, head, path = masked
    path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="mask1.png is not a PNG"):
        check_masks(records, head)
    del records[0]["sem_seg_file_name"]
    with pytest.raises(ValueError, match="0.jpg has no semantic mask"):
        check_masks(records, head)


def test_label_to_ignore_may_not_be_a_class(masked):
    head = masked[1]
    head.ignore_value = 2
    with pytest.raises(ValueError, match="ignore_value is 2, which is one of the 3 classes"):
        check_masks(masked[0], head)


@pytest.mark.parametrize(
    "before, fits, does_not",
    [
        ([], (512, 1024), (512, 1025)),
        # Images of 1024×2048 shrink to half of 600×1100, which leaves them 275×550.
        ([dict(min_scale=0.5, max_scale=2.0, target_height=600, target_width=1100)], (275, 550), (276, 550)),
    ],
)
def test_crops_have_to_fit(before, fits, does_not):
    record = {"file_name": "a.png", "height": 512, "width": 1024}

    def loader(crop_size):
        crop = L(T.RandomCrop_CategoryAreaConstraint)(crop_type="absolute", crop_size=crop_size)
        return OmegaConf.create(
            {"mapper": {"augmentations": [*(L(T.ResizeScale)(**x) for x in before), crop]}},
            flags={"allow_objects": True},
        )

    check_crops([record, {"file_name": "of unknown size"}], loader(fits))
    with pytest.raises(ValueError, match=r"a.png is .*, but crops are \d+×\d+: make the crops smaller"):
        check_crops([record], loader(does_not))
    check_crops([record], OmegaConf.create({"mapper": {}}))


def test_a_model_of_masks_needs_them():
    model = detector("mask_rcnn")
    model.roi_heads.mask_on = False
    loader = OmegaConf.create({"mapper": L(DatasetMapper)(is_train=True, augmentations=[], image_format="BGR")})
    records = [{"annotations": [{"bbox": [1, 1, 4, 4]}, {"bbox": [1, 1, 4, 4], "segmentation": [[1, 1, 4, 4, 1, 4]]}]}]
    check_targets(records, loader, model)
    model.roi_heads.mask_on = True
    with pytest.raises(ValueError, match="leaves them out: set dataloader.train.mapper.use_instance_mask=True"):
        check_targets(records, loader, model)
    loader.mapper.use_instance_mask = True
    check_targets(records, loader, model)
    with pytest.raises(ValueError, match="no annotation has any .'segmentation'."):
        check_targets([{"annotations": records[0]["annotations"][:1]}], loader, model)
    check_targets(records, OmegaConf.create({"mapper": {"_target_": "builtins.dict"}}), detector("retinanet"))


def test_a_model_of_keypoints_needs_as_many_and_their_sides():
    model = detector("faster_rcnn")
    model.roi_heads.keypoint_on, model.roi_heads.keypoint_head = True, torch.nn.Identity()
    model.roi_heads.keypoint_head.num_keypoints = 2
    mapper = L(DatasetMapper)(is_train=True, augmentations=[L(T.RandomFlip)()], image_format="BGR")
    loader = OmegaConf.create({"mapper": mapper})
    records = [{"annotations": [{"bbox": [1, 1, 4, 4]}, {"bbox": [1, 1, 4, 4], "keypoints": [1, 1, 2, 4, 4, 2]}]}]
    with pytest.raises(ValueError, match="set dataloader.train.mapper.use_keypoint=True"):
        check_targets(records, loader, model)
    loader.mapper.use_keypoint = True
    with pytest.raises(
        ValueError, match="flipped, but nothing says which .*mapper.keypoint_hflip_indices, as .*create_"
    ):
        check_targets(records, loader, model)
    loader.mapper.keypoint_hflip_indices = [1, 0]
    check_targets(records, loader, model)
    model.roi_heads.keypoint_head.num_keypoints = 17
    with pytest.raises(ValueError, match="data has 2 keypoints, but the model predicts 17: set num_keypoints"):
        check_targets(records, loader, model)


def test_a_model_of_stuff_needs_semantic_masks():
    model = detector("semantic_fpn")
    loader = OmegaConf.create({"mapper": L(DatasetMapper)(is_train=True, augmentations=[], image_format="BGR")})
    records = [{"file_name": "a.jpg", "sem_seg_file_name": "a.png"}, {"file_name": "b.jpg", "pan_seg_file_name": "b"}]
    check_targets(records[:1], loader, model)
    with pytest.raises(ValueError, match="1 of 2 images have no semantic mask .*example b.jpg: .*_panoptic_separated"):
        check_targets(records, loader, model)


@pytest.mark.parametrize(
    "mapper", [lambda record: record, L(sorted)(augmentations=None), L(sorted)(augmentations="none")]
)
def test_mappers_of_any_kind_pass(mapper):
    loader = OmegaConf.create({"mapper": mapper}, flags={"allow_objects": True})
    records = [{"file_name": "a.jpg", "height": 4, "width": 4, "annotations": [{"segmentation": [[0, 0, 1, 1, 0, 1]]}]}]
    check_crops(records, loader)
    check_targets(records, loader, types.SimpleNamespace(roi_heads=types.SimpleNamespace(mask_on=True)))
