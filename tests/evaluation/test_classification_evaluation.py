import numpy as np
import pytest
import torch
from cankd.evaluation import ClassificationEvaluator
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

NAMES = ["a", "b", "c", "d", "e", "f", "g"]


@pytest.fixture
def evaluator():
    MetadataCatalog.get("letters").image_classes = NAMES
    yield ClassificationEvaluator("letters")
    MetadataCatalog.remove("letters")


def process(evaluator, *pairs):
    """Counts (label, classes from the most probable on)."""
    records = [{"label": NAMES.index(label)} for label, _ in pairs]
    outputs = [{"classes": torch.tensor([NAMES.index(name) for name in classes])} for _, classes in pairs]
    evaluator.process(records, outputs)


PAIRS = [("a", "abcdefg"), ("a", "bacdefg"), ("a", "gfedcba"), ("b", "bcdefga"), ("b", "cdefbga"), ("c", "cabdefg")]


def test_metrics_are_shares_of_images_and_of_classes(evaluator):
    process(evaluator, *PAIRS)
    metrics = evaluator.evaluate()["classification"]
    assert metrics["top1"] == pytest.approx(50) and metrics["top5"] == pytest.approx(500 / 6)
    assert metrics["ACC-a"] == pytest.approx(100 / 3) and metrics["ACC-b"] == 50 and metrics["ACC-c"] == 100
    assert metrics["mACC"] == pytest.approx(550 / 9) and np.isnan(metrics["ACC-d"])
    evaluator.reset()
    process(evaluator, PAIRS[0])
    assert evaluator.evaluate()["classification"]["top1"] == 100


def test_processes_add_up(evaluator, monkeypatch):
    other = ClassificationEvaluator("letters")
    process(other, *PAIRS[3:])
    shares = []
    monkeypatch.setattr(comm, "gather", lambda share: shares.append(share) or shares)
    monkeypatch.setattr(comm, "is_main_process", lambda: len(shares) == 2)
    assert other.evaluate() == {}
    process(evaluator, *PAIRS[:3])
    found = evaluator.evaluate()["classification"]
    assert found["top1"] == pytest.approx(50) and found["top5"] == pytest.approx(500 / 6)


def test_refuses_what_does_not_fit(evaluator):
    with pytest.raises(ValueError, match="the model predicts 3 classes, but the data set has 7"):
        process(evaluator, ("a", "abc"))
    with pytest.raises(ValueError, match="the classes of nowhere have no names: register it by cankd.data.register_im"):
        ClassificationEvaluator("nowhere")
    MetadataCatalog.remove("nowhere")
