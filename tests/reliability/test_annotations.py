"""Any annotation file is read rightly, or refused in a line."""

import json

import pytest
from cankd.data import load_records
from cankd.data.annotation_checks import check_annotations
from cankd.utils import UserError
from detectron2.config import LazyCall
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from hypothesis import HealthCheck, given, settings
from reliability.annotations import broken_files, is_harmless, mutations

BOX = {"id": 1, "image_id": 3, "category_id": 1, "bbox": [4, 5, 20, 10], "area": 200, "iscrowd": 0}
CONTENTS = {
    "images": [{"id": 3, "file_name": "000000.png", "width": 64, "height": 64}],
    "annotations": [{**BOX, "segmentation": [[4, 5, 24, 5, 24, 15]]}],
    "categories": [{"id": 1, "name": "zero"}],
}


@pytest.fixture
def read(tmp_path, sound):
    """Returns a function that reads an annotation file as training does."""
    path = tmp_path / "annotations.json"
    register_coco_instances("mutated", {}, str(path), str(sound / "soak_train" / "images"))

    def read(text):
        MetadataCatalog.pop("mutated")
        MetadataCatalog.get("mutated").set(json_file=str(path))
        path.write_text(text, errors="surrogatepass")
        records = load_records(LazyCall(get_detection_dataset_dicts)(names="mutated", filter_empty=True))
        return check_annotations(records, str(path))

    yield read
    DatasetCatalog.remove("mutated")
    MetadataCatalog.pop("mutated")


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=mutations(CONTENTS))
def test_what_is_accepted_can_be_mapped(read, text):
    mapper = DatasetMapper(is_train=True, augmentations=[], image_format="BGR")
    try:
        records = read(text)
    except UserError:
        return
    for record in records:
        instances = mapper(record)["instances"]
        assert instances.gt_boxes.tensor.isfinite().all() and (instances.gt_classes >= 0).all()


def test_the_oracle():
    files = dict(broken_files(CONTENTS))
    assert is_harmless(json.dumps(CONTENTS), CONTENTS, masks=True)
    harmless = {name for name, text in files.items() if is_harmless(text, CONTENTS)}
    assert {"annotations.0.segmentation: removed", "a polygon of two points", "images.0.id: twice"}.isdisjoint(
        name for name, text in files.items() if is_harmless(text, CONTENTS, masks=True)
    )
    assert {"a polygon of two points", "annotations.0.bbox.0: zero"} <= harmless
    for name in (
        "annotations.0.bbox.2: negative",
        "annotations.0.bbox: NaN",
        "annotations.0.image_id: removed",
        "an image that is not there",
        "images.0.width: zero",
        "categories.0.id: a string",
        "cut off",
    ):
        assert name not in harmless, name
