import re

import pytest
from cankd.checkpoint import read_weights
from cankd.data import load_records, register_datasets
from cankd.engine import load_config
from cankd.utils import place_of
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances


def test_only_a_relative_path_is_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place_of("a/b.pth") == f" (looked for as {tmp_path / 'a' / 'b.pth'})"
    assert place_of("/a/b.pth") == place_of("https://host/b.pth") == place_of("") == ""


def load_data_set():
    register_coco_instances("relative", {}, "absent.json", "images")
    try:
        load_records(L(get_detection_dataset_dicts)(names="relative"))
    finally:
        DatasetCatalog.remove("relative")
        MetadataCatalog.remove("relative")


@pytest.mark.parametrize(
    "name, load",
    [
        ("absent.pth", lambda: read_weights("absent.pth")),
        ("absent.py", lambda: load_config("absent.py")),
        ("absent_data.py", lambda: register_datasets("absent_data.py")),
        ("absent.json", load_data_set),
    ],
)
def test_a_missing_file_is_named_by_its_absolute_path(tmp_path, monkeypatch, name, load):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))):
        load()
