import json
import pathlib

import pytest
import torch
from cankd.reporting import compare_confusion, confusion
from cankd.reporting.models import LoadedModel
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.structures import Boxes, BoxMode, Instances
from omegaconf import OmegaConf


def load(model):
    return LoadedModel(model, lambda record: record)


@pytest.fixture
def loader(tmp_path):
    """Of one image with an object and, elsewhere, a crowd."""
    (tmp_path / "a.png").touch()
    box = {"bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    annotations = [{**box, "bbox": [0, 0, 9, 9]}, {**box, "bbox": [20, 20, 30, 30], "iscrowd": 1}]
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 0, "annotations": annotations}
    DatasetCatalog.register("crowded", lambda: [record])
    MetadataCatalog.get("crowded").thing_classes = ["thing"]
    yield OmegaConf.create({"dataset": L(get_detection_dataset_dicts)(names="crowded")}, flags={"allow_objects": True})
    DatasetCatalog.remove("crowded")
    MetadataCatalog.remove("crowded")


@pytest.mark.parametrize("counting, counts", [("one-to-one", [[1, 0], [1, 0]]), ("published", [[2, 0], [0, 0]])])
def test_crowds_are_objects_where_published_counting_is_asked_for(loader, counting, counts, tmp_path):
    found = Instances((40, 40), scores=torch.ones(2), pred_classes=torch.zeros(2, dtype=torch.long))
    found.pred_boxes = Boxes(torch.tensor([[0.0, 0, 9, 9], [20, 20, 30, 30]]))
    models = {"model": load(lambda records: [{"instances": found}])}
    matrices = compare_confusion(models, loader, str(tmp_path / "out"), counting=counting)
    assert matrices["model"].counts.tolist() == counts


@pytest.fixture
def labelled(tmp_path):
    """Of three images with labels."""
    records = [{"file_name": str(tmp_path / f"{i}.png"), "label": label} for i, label in enumerate([0, 1, 1])]
    for record in records:
        pathlib.Path(record["file_name"]).touch()
    DatasetCatalog.register("labelled", lambda: records)
    MetadataCatalog.get("labelled").image_classes = ["cat", "dog"]
    yield OmegaConf.create({"dataset": L(get_detection_dataset_dicts)(names="labelled")}, flags={"allow_objects": True})
    DatasetCatalog.remove("labelled")
    MetadataCatalog.remove("labelled")


def test_classifiers_have_no_background(labelled, tmp_path, monkeypatch):
    def always_dog(records):
        return [{"classes": torch.tensor([1, 0])} for _ in records]

    def right(records):
        return [{"classes": torch.tensor([record["label"], 1 - record["label"]])} for record in records]

    models = {"student": load(always_dog), "distilled": load(right)}
    drawn = []
    monkeypatch.setattr(confusion, "draw_confusion_matrices", lambda *_, difference: drawn.append(difference))
    matrices = compare_confusion(models, labelled, str(tmp_path / "out"))
    assert {title: matrix.counts.tolist() for title, matrix in matrices.items()} == {
        "student": [[0, 1], [0, 2]],
        "distilled": [[1, 0], [0, 2]],
    }
    written = json.loads((tmp_path / "out" / "confusion.json").read_text())
    assert written["classes"] == ["cat", "dog"] and written["counting"] == "top-1"
    assert drawn == [("distilled", "student")]  # what the second has more of
    assert (tmp_path / "out" / "confusion.csv").read_text().split() == [
        "model,true,predicted,count",
        *("student,cat,cat,0", "student,cat,dog,1", "student,dog,cat,0", "student,dog,dog,2"),
        *("distilled,cat,cat,1", "distilled,cat,dog,0", "distilled,dog,cat,0", "distilled,dog,dog,2"),
    ]


def test_labels_are_for_classifiers(labelled, tmp_path):
    with pytest.raises(ValueError, match="the detector does not classify images"):
        compare_confusion({"detector": load(lambda records: [{"instances": None}])}, labelled, str(tmp_path))


def test_a_teacher_of_other_classes_is_left_out(labelled, tmp_path, caplog):
    class Teacher:
        num_classes = 80

    models = {"student": load(lambda records: [{"classes": torch.tensor([1, 0])} for _ in records])}
    models["teacher"] = load(Teacher())
    assert list(compare_confusion(models, labelled, str(tmp_path))) == ["student"]
    assert (
        "The data set has 2 classes, and another number is predicted by the teacher, which is left out" in caplog.text
    )
    with pytest.raises(ValueError, match="another number is predicted by the teacher"):
        compare_confusion({"teacher": models["teacher"]}, labelled, str(tmp_path))
