import copy

import pytest
from cankd.data import load_records
from cankd.robustness.fingerprints import fingerprint_data
from detectron2.data import MetadataCatalog
from PIL import Image


@pytest.fixture
def data(quick_config):
    return quick_config("DigitScenes/retinanet_R10.py").dataloader


def test_the_number_of_workers_does_not_count(data):
    records = load_records(data.test.dataset)
    before = fingerprint_data(data, records)
    data.test.num_workers = 5
    assert fingerprint_data(data, records) == before


def test_the_contents_of_annotations_count(data, tmp_path, monkeypatch):
    metadata = MetadataCatalog.get(data.test.dataset.names)
    monkeypatch.setitem(vars(metadata), "json_file", str(tmp_path / "annotations.json"))
    found = set()
    for box in ("[1, 2, 3, 4]", "[1, 2, 3, 5]"):
        (tmp_path / "annotations.json").write_text(box)
        found.add(fingerprint_data(data, load_records(data.test.dataset)))
    assert len(found) == 2


def test_files_and_labels_count(data, tmp_path):
    for name in ("image", "mask"):
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    paths = {"file_name": str(tmp_path / "image.png"), "sem_seg_file_name": str(tmp_path / "mask.png")}
    records = [{"image_id": 1, "label": 1, **paths}]
    found = {fingerprint_data(data, records)}
    for change in ({"image_id": 2}, {"label": 2}):
        changed = copy.deepcopy(records)
        changed[0].update(change)
        found.add(fingerprint_data(data, changed))
    for path in paths.values():
        Image.new("L", (80, 80)).save(path)
        found.add(fingerprint_data(data, records))
    assert len(found) == 5
