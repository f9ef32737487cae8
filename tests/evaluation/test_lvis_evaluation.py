import numpy as np
import pytest
from cankd.evaluation import LVISEvaluator
from detectron2 import evaluation
from detectron2.data import DatasetCatalog

from tests.evaluation.test_coco_evaluation import predictions


def test_equals_the_package_lvis(tiny_scenes, tiny_tasks, monkeypatch):
    pytest.importorskip("lvis", reason="its evaluation is the one to be equal to")
    monkeypatch.setattr(np, "float", float, raising=False)  # which its evaluation needs
    name, results = tiny_tasks["lvis"][1], []
    for kind in (LVISEvaluator, evaluation.LVISEvaluator):
        evaluator = kind(name, max_dets_per_image=6)
        evaluator.reset()
        for inputs, outputs in predictions(DatasetCatalog.get(tiny_scenes[1]), np.random.default_rng(0)):
            outputs["instances"].pred_classes += outputs["instances"].scores > 0.9  # some of a class that is not there
            evaluator.process([inputs], [outputs])
        results.append(evaluator.evaluate())
    found, expected = results
    assert found.keys() == expected.keys() == {"bbox", "segm"}
    for task in expected:
        for metric, value in expected[task].items():
            value = np.nan if value < 0 else value
            assert found[task][metric] == pytest.approx(value, abs=1e-9, nan_ok=True), metric
    assert found["bbox"]["AP50"] > 10


def test_only_classes_known_to_be_there_or_absent_count(tiny_scenes, tiny_tasks):
    """A digit that no image is said to be free of is not wrong, whatever is predicted."""
    evaluator = LVISEvaluator(tiny_tasks["lvis"][1], ("bbox",))
    evaluator.reset()
    expected = []
    for false_class in (11, 10):  # nobody says whether there are any, and said to be absent
        evaluator.reset()
        for inputs, outputs in predictions(DatasetCatalog.get(tiny_scenes[1]), np.random.default_rng(0)):
            wrong = outputs["instances"].scores > 0.5
            outputs["instances"].pred_classes[wrong] = false_class
            evaluator.process([inputs], [outputs])
        expected.append(evaluator.evaluate()["bbox"]["AP"])
    assert expected[0] > 0 and expected[0] == pytest.approx(expected[1])


def test_part_of_the_images_and_none(tiny_scenes, tiny_tasks):
    evaluator = LVISEvaluator(tiny_tasks["lvis"][1], ("bbox",))
    evaluator.reset()
    records = DatasetCatalog.get(tiny_scenes[1])
    for inputs, outputs in predictions(records[:3], np.random.default_rng(0)):
        evaluator.process([inputs], [outputs])
    some = evaluator.evaluate(img_ids=[record["image_id"] for record in records[:3]])
    assert some["bbox"]["AP50"] > evaluator.evaluate()["bbox"]["AP50"] > 0
    evaluator.reset()
    evaluator.process([inputs], [{"instances": outputs["instances"][:0]}])
    assert np.isnan(evaluator.evaluate()["bbox"]["APr"])
