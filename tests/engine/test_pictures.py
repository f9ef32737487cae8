import json

import cv2
import numpy as np
import pytest
from cankd.engine import draw_data
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances


@pytest.fixture
def plain_dataset(tmp_path):
    """Registers a data set as users do, without colours and with more classes than a palette may have."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 60, "height": 40} for i in range(3)]
    annotations = [
        {"id": i + 1, "image_id": i, "category_id": 70 + i, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
        for i in range(3)
    ]
    categories = [{"id": i, "name": f"class {i}"} for i in range(90)]
    contents = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "plain.json").write_text(json.dumps(contents))
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((40, 60, 3), 90, np.uint8))
    register_coco_instances("plain", {}, str(tmp_path / "plain.json"), str(tmp_path))
    yield "plain"
    DatasetCatalog.remove("plain")
    MetadataCatalog.remove("plain")


def test_draws_any_registered_data_set(plain_dataset, tmp_path):
    draw_data(L(get_detection_dataset_dicts)(names=plain_dataset), str(tmp_path / "samples.png"), images=3, columns=2)
    picture = cv2.imread(str(tmp_path / "samples.png"))
    assert picture.shape[1] == 900 and picture.shape[0] == pytest.approx(600, abs=1)
    quarters = [picture[:300, :450], picture[:300, 450:], picture[300:, :450], picture[300:, 450:]]
    drawn = [(np.abs(quarter.astype(int) - 90).max(2) > 60).mean() for quarter in quarters]
    assert all(0.01 < share < 0.6 for share in drawn[:3])
