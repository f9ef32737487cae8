import json
import os

import pytest
import torch
from cankd.engine.preflight import (
    check_batch_size,
    check_classes,
    check_device,
    check_output_dir,
    check_processes,
    load_records,
)
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances

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


def test_refuses_an_unregistered_data_set():
    with pytest.raises(ValueError, match="no data set is registered as 'nowhere'.*register_coco_instances"):
        load("nowhere")


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
    with pytest.raises(ValueError, match="cannot be used .*No valid data.* and have annotated images"):
        load()
    coco_files[0].unlink()
    coco_files[0].mkdir()
    with pytest.raises(ValueError, match="annotations.json cannot be used .IsADirectoryError"):
        load()


def test_names_missing_images(coco_files):
    (coco_files[1] / "1.jpg").unlink()
    with pytest.raises(ValueError, match="names 1 images that do not exist, of 2; the first is .*images/1.jpg"):
        load()


@pytest.mark.parametrize("kind", DETECTORS)
def test_classes_have_to_fit(kind):
    model = detector(kind)
    check_classes([{"annotations": [{"category_id": 9}]}, {"annotations": []}], model)
    with pytest.raises(ValueError, match="the data has 11 classes, but the model predicts 10"):
        check_classes([{"annotations": [{"category_id": 10}]}], model)


def test_output_dir_has_to_be_writable(tmp_path):
    check_output_dir(str(tmp_path / "a" / "b"))
    assert os.path.isdir(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="train.output_dir=.*file/run cannot be written: Not a directory"):
        check_output_dir(str(tmp_path / "file" / "run"))


def test_devices_have_to_exist(monkeypatch):
    check_device("cpu")
    with pytest.raises(ValueError, match="train.device=gpu is not a device that PyTorch knows"):
        check_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_processes(2)  # on the CPU
    with pytest.raises(ValueError, match="no CUDA device: add train.device=cpu"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_device("cuda:0")
    check_processes(1)
    with pytest.raises(ValueError, match="--num-gpus 2, but this machine has 1"):
        check_processes(2)


def test_batch_has_to_fit_the_processes():
    check_batch_size({"total_batch_size": 16}, 8)
    check_batch_size({}, 8)
    for size in (4, 0, 12):
        with pytest.raises(ValueError, match=f"total_batch_size is {size}; it has to be a multiple .* processes, 8"):
            check_batch_size({"total_batch_size": size}, 8)
