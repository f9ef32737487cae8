import json

import cv2
import numpy as np
import pytest
import torch
from cankd.reporting import draw_data, draw_predictions, pictures
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, BoxMode, Instances


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


def test_images_on_which_students_differ_come_first(quick_config, tmp_path, monkeypatch):
    config = quick_config("DigitScenes/retinanet_R10_from_R18.py")
    records = instantiate(config.dataloader.test.dataset)
    names = [record["file_name"] for record in records]
    found = {names[1]: ({0}, {0}), names[2]: ({0}, {1}), names[3]: (set(), {0}), names[4]: ({0, 1}, {2})}

    def found_objects(output, record, score_threshold):
        return found.get(record["file_name"], (set(), set()))[output]

    monkeypatch.setattr(pictures, "_found_objects", found_objects)
    models = [pictures.LoadedModel(lambda batch, i=i: [i], lambda record: record) for i in (0, 1)]
    ranked = pictures.rank_by_difference(*models, records, 0.3)
    assert [names.index(record["file_name"]) for record in ranked] == [4, 2, 3]


def test_images_without_annotations_keep_their_place(quick_config, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(pictures, "save_grid", lambda path, grid, titles: rows.append((grid, titles)))
    config = quick_config("DigitScenes/retinanet_R10.py")
    dataset = config.dataloader.test.dataset
    records = [dict(record) for record in instantiate(dataset)[:3]]
    del records[0]["annotations"]
    found = Instances((160, 160), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
    found.pred_classes = torch.zeros(0, dtype=torch.long)
    model = pictures.LoadedModel(lambda batch: [{"instances": found}] * len(batch), lambda record: record)
    pictures.draw_comparison({"student": model}, dataset, records, str(tmp_path / "a.png"))
    ((grid, titles),) = rows
    assert titles == ["student", "ground truth"] and len(grid) == 3
    assert (grid[0][0] == grid[0][1]).all() and (grid[1][0] != grid[1][1]).any()  # the image itself, and what is on it


def test_the_truth_has_masks_where_a_model_predicts_some():
    annotation = {"bbox": [0, 0, 5, 5], "segmentation": [[0, 0, 5, 0, 5, 5]], "keypoints": [1, 1, 2]}
    boxes, masks = Instances((9, 9)), Instances((9, 9), pred_masks=torch.zeros(0, 9, 9))

    def kept(*outputs):
        (found,) = pictures._keep_predicted({"annotations": [annotation]}, outputs)["annotations"]
        return found.keys() - {"bbox"}

    assert kept({"instances": boxes}) == set()
    assert kept({"instances": boxes}, {"instances": masks}) == {"segmentation"}


def test_a_panoptic_model_has_its_instances_above_its_segmentation(quick_config, tmp_path, monkeypatch):
    grids = []
    monkeypatch.setattr(pictures, "save_grid", lambda path, grid, titles: grids.append(dict(zip(titles, grid[0]))))
    dataset = quick_config("DigitScenes/semantic_fpn_R10.py").dataloader.test.dataset
    record = instantiate(dataset)[0]
    everywhere = torch.zeros(11, 160, 160)
    everywhere[10] = 1
    found = Instances((160, 160), pred_boxes=Boxes(torch.tensor([[20.0, 30, 60, 90]])))
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([3])

    def draw(**output):
        model = torch.nn.Module()
        model.sem_seg_head = None
        model.forward = lambda batch: [output]
        loaded = pictures.LoadedModel(model, lambda record: record)
        pictures.draw_comparison({"model": loaded}, dataset, [record], str(tmp_path / "a.png"))
        return grids.pop()

    semantic, panoptic = draw(sem_seg=everywhere), draw(sem_seg=everywhere, instances=found)
    for title in ("model", "ground truth"):
        differs = np.abs(panoptic[title].astype(int) - semantic[title]).sum(2) > 60
        assert 0.005 < differs.mean() < 0.5, title


def test_an_object_is_found_by_class_place_and_score():
    found = Instances((50, 50))
    found.pred_boxes = Boxes([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0], [0.0, 20.0, 10.0, 30.0]])
    found.scores, found.pred_classes = torch.tensor([0.2, 0.9, 0.9]), torch.tensor([1, 2, 3])
    boxes = [([0, 0, 10, 10], 1), ([20, 20, 10, 10], 2), ([0, 20, 10, 10], 4)]
    annotations = [dict(bbox=box, category_id=c, bbox_mode=BoxMode.XYWH_ABS) for box, c in boxes]
    output, record = {"instances": found}, {"annotations": annotations}
    assert pictures._found_objects(output, record, 0.3) == {1}
    assert pictures._found_objects(output, record, 0.1) == {0, 1}
    with pytest.raises(ValueError, match="only detectors"):
        pictures._found_objects({"sem_seg": None}, record, 0.3)


def test_a_classifier_finds_an_image_of_its_class():
    output = {"classes": torch.tensor([4, 2])}
    assert pictures._found_objects(output, {"label": 4}, 0.3) and not pictures._found_objects(output, {"label": 2}, 0.3)


def test_draws_labels(tiny_patches, tmp_path):
    draw_data(L(get_detection_dataset_dicts)(names=tiny_patches[1]), str(tmp_path / "samples.png"), images=2)
    assert cv2.imread(str(tmp_path / "samples.png")).shape[1] == 2 * 450


def test_draws_segmentations_where_nothing_else_is_annotated(quick_config, tmp_path, monkeypatch):
    grids = []
    monkeypatch.setattr(pictures, "save_grid", lambda path, grid: grids.append(grid))
    dataset = quick_config("DigitScenes/semantic_fpn_R10.py").dataloader.test.dataset
    records = instantiate(dataset)
    for record in (records[0], {**records[0], "annotations": []}, {"file_name": records[0]["file_name"]}):
        monkeypatch.setattr(pictures, "load_records", lambda dataset, record=record: [record])
        draw_data(dataset, str(tmp_path / "samples.png"))
    boxes, segmentation, image = (grid[0][0].astype(int) for grid in grids)
    everywhere, somewhere = ((np.abs(each - image).max(2) > 5).mean() for each in (segmentation, boxes))
    assert everywhere > 0.9 and 0 < somewhere < 0.9


def test_differences_need_two_students(quick_config, tmp_path):
    config = quick_config("DigitScenes/retinanet_R10_from_R18.py")
    with pytest.raises(ValueError, match="give both, --baseline and train.init_checkpoint, and no --input"):
        draw_predictions(config, str(tmp_path / "a.png"), only_differing=True)
