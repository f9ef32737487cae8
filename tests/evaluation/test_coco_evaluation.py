import json

import numpy as np
import pytest
import torch
from cankd.data import register_subset
from cankd.evaluation import FastCOCOEvaluator
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances


def predictions(records, generator):
    """Returns guesses around the truth: displaced boxes and masks, some of a wrong class, and false alarms."""
    for record in records:
        boxes, classes = [], []
        for annotation in record["annotations"]:
            box = BoxMode.convert(annotation["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
            for _ in range(3):
                boxes.append(np.array(box) + generator.normal(0, 3, 4))
                classes.append(annotation["category_id"] if generator.random() < 0.7 else generator.integers(10))
        found = Instances((160, 160))
        found.pred_boxes = Boxes(torch.tensor(np.array(boxes)))
        found.pred_classes = torch.tensor(np.array(classes))
        found.scores = torch.tensor(generator.random(len(boxes)))
        masks = torch.zeros(len(boxes), 160, 160, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, np.array(boxes).clip(0, 160).astype(int)):
            mask[y0:y1, x0:x1] = True
        found.pred_masks = masks
        yield {"image_id": record["image_id"]}, {"instances": found}


@pytest.mark.parametrize("tasks", [("bbox",), ("bbox", "segm"), None])
def test_equals_pycocotools(tiny_scenes, tasks):
    records = DatasetCatalog.get(tiny_scenes[0])
    results = []
    for evaluator in (
        FastCOCOEvaluator(tiny_scenes[0], tasks),
        COCOEvaluator(tiny_scenes[0], tasks, use_fast_impl=False),
    ):
        evaluator.reset()
        for inputs, outputs in predictions(records, np.random.default_rng(0)):
            evaluator.process([inputs], [outputs])
        results.append(evaluator.evaluate())
    found, expected = results
    assert set(found) == set(tasks or ("bbox", "segm"))
    assert found["bbox"]["AP50"] > 10
    for task in expected:
        assert found[task].keys() == expected[task].keys()
        for name, value in expected[task].items():
            assert found[task][name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_a_part_of_a_data_set_is_evaluated_on_its_own_images(tiny_scenes):
    register_subset("part", tiny_scenes[1], start=1, stop=3)
    try:
        records = DatasetCatalog.get("part")
        evaluator = FastCOCOEvaluator("part", ("bbox",))
        evaluator.reset()
        for record in records:
            boxes = [BoxMode.convert(a["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) for a in record["annotations"]]
            found = Instances((160, 160), pred_boxes=Boxes(torch.tensor(boxes)), scores=torch.ones(len(boxes)))
            found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
            evaluator.process([record], [{"instances": found}])
        assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    finally:
        DatasetCatalog.remove("part")
        MetadataCatalog.remove("part")


def test_no_predictions_give_nan(tiny_scenes):
    evaluator = FastCOCOEvaluator(tiny_scenes[1], ("bbox",))
    evaluator.reset()
    empty = Instances(
        (160, 160), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0), pred_classes=torch.zeros(0)
    )
    evaluator.process([{"image_id": 0}], [{"instances": empty}])
    assert np.isnan(evaluator.evaluate()["bbox"]["AP"])


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("num_classes, message", [(3, r"class 3 was predicted, .* has 3 classes"), (4, None)])
def test_classes_that_the_data_lack_are_refused(tmp_path, mapped, num_classes, message):
    """Without a map of ids, the predicted class is the annotations' id, which here begins at 0."""
    ids = [i + mapped for i in range(num_classes)]
    annotations = [{"id": 1, "image_id": 0, "category_id": ids[0], "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}]
    images, categories = [{"id": 0, "width": 20, "height": 20}], [{"id": i, "name": f"class {i}"} for i in ids]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    metadata = MetadataCatalog.get("few_classes")
    metadata.json_file = str(path)
    if mapped:
        metadata.thing_dataset_id_to_contiguous_id = {i: i - 1 for i in ids}
    try:
        evaluator = FastCOCOEvaluator("few_classes", ("bbox",))
        evaluator.reset()
        found = Instances((20, 20), scores=torch.ones(2), pred_classes=torch.tensor([0, 3]))
        found.pred_boxes = Boxes(torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9]]))
        evaluator.process([{"image_id": 0}], [{"instances": found}])
        if message:
            with pytest.raises(ValueError, match=f"{message}, 0 to 2: evaluate a model that was trained for these"):
                evaluator.evaluate()
        else:
            assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    finally:
        MetadataCatalog.remove("few_classes")


@pytest.mark.parametrize("task, key", [("segm", "segmentation"), ("keypoints", "keypoints")])
def test_a_task_that_the_model_does_not_predict_is_refused(tiny_scenes, task, key):
    records = DatasetCatalog.get(tiny_scenes[1])
    evaluator = FastCOCOEvaluator(tiny_scenes[1], ("bbox", task))
    evaluator.reset()
    for image, output in predictions(records, np.random.default_rng(0)):
        output["instances"].remove("pred_masks")
        evaluator.process([image], [output])
    with pytest.raises(
        ValueError, match=f"{task} is among the evaluator's tasks, but the model predicts no {key}: set dataloader"
    ):
        evaluator.evaluate()


def test_refuses_other_tasks(tiny_scenes):
    with pytest.raises(ValueError, match="FastCOCOEvaluator knows bbox, segm and keypoints"):
        FastCOCOEvaluator(tiny_scenes[1], ("captions",))


def keypoint_predictions(records, generator):
    """Returns each object at its place, its keypoints displaced by a few pixels."""
    for record in records:
        annotations = record["annotations"]
        found = Instances((160, 160), scores=torch.tensor(generator.random(len(annotations))))
        boxes = [BoxMode.convert(a["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) for a in annotations]
        found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        found.pred_classes = torch.tensor([a["category_id"] for a in annotations])
        points = torch.tensor(np.array([a["keypoints"] for a in annotations])).reshape(-1, 3, 3)
        points[..., :2] += torch.tensor(generator.normal(0, 1.5, points[..., :2].shape))
        found.pred_keypoints = points
        yield {"image_id": record["image_id"]}, {"instances": found}


def evaluate_keypoints(evaluator, name):
    evaluator.reset()
    for inputs, outputs in keypoint_predictions(DatasetCatalog.get(name), np.random.default_rng(0)):
        evaluator.process([inputs], [outputs])
    return evaluator.evaluate()


def test_keypoints_are_measured_by_the_datas_own_sigmas(tiny_tasks):
    name = tiny_tasks["keypoints"][0]
    sigmas = MetadataCatalog.get(name).keypoint_oks_sigmas
    found = evaluate_keypoints(FastCOCOEvaluator(name), name)
    expected = evaluate_keypoints(COCOEvaluator(name, use_fast_impl=False, kpt_oks_sigmas=sigmas), name)
    assert found["keypoints"] == pytest.approx(expected["keypoints"], nan_ok=True)
    assert 5 < found["keypoints"]["AP"] < 95 and found["bbox"]["AP"] == pytest.approx(100)
    wide = evaluate_keypoints(FastCOCOEvaluator(name, kpt_oks_sigmas=[1.0, 1.0, 1.0]), name)
    assert wide["keypoints"]["AP"] > found["keypoints"]["AP"]


def test_a_sigma_is_wanted_for_each_keypoint(tiny_tasks):
    name = tiny_tasks["keypoints"][1]
    metadata = MetadataCatalog.get(name)
    with pytest.raises(ValueError, match="has 3 keypoints, but there are 2 sigmas to measure them by: give one"):
        FastCOCOEvaluator(name, ("bbox", "keypoints"), kpt_oks_sigmas=[0.1, 0.1])
    sigmas = metadata.keypoint_oks_sigmas
    try:
        del metadata.keypoint_oks_sigmas
        with pytest.raises(ValueError, match="there are 17 sigmas to measure them by, those of COCO: give one"):
            evaluate_keypoints(FastCOCOEvaluator(name), name)
    finally:
        metadata.keypoint_oks_sigmas = sigmas


KEYPOINT_METADATA = "keypoint_names", "keypoint_oks_sigmas", "thing_classes", "thing_dataset_id_to_contiguous_id"


def test_keypoints_need_no_more_than_detectron2_trains_on(tiny_tasks, tmp_path):
    """Files from elsewhere may have no num_keypoints and iscrowd."""
    name = tiny_tasks["keypoints"][0]
    whole, metadata = evaluate_keypoints(FastCOCOEvaluator(name), name), MetadataCatalog.get(name)
    with open(metadata.json_file) as f:
        contents = json.load(f)
    for annotation in contents["annotations"]:
        for key in ("num_keypoints", "iscrowd"):
            annotation.pop(key, None)
    (tmp_path / "bare.json").write_text(json.dumps(contents))
    shared = {key: metadata.get(key) for key in KEYPOINT_METADATA}
    MetadataCatalog.get("bare").set(json_file=str(tmp_path / "bare.json"), **shared)
    try:
        assert evaluate_keypoints(FastCOCOEvaluator("bare"), name)["keypoints"] == pytest.approx(
            whole["keypoints"], nan_ok=True
        )
        contents["annotations"][0]["keypoints"] = [1, 1, 2]
        (tmp_path / "bare.json").write_text(json.dumps(contents))
        with pytest.raises(ValueError, match="bare.json has 'keypoints' of other lengths"):
            FastCOCOEvaluator("bare", ("bbox", "keypoints"))
    finally:
        MetadataCatalog.remove("bare")
