import json

import pytest
from cankd.engine import candidates, result_fingerprint
from cankd.engine.candidates import Candidates
from cankd.utils import UserError

CONFIG = "DigitScenes/retinanet_R10_from_R18.py"
FORM = {"scope": "global", "levels": ["p3", "p4", "p5"], "weight": 5.0}


@pytest.mark.parametrize(
    "genes, failure",
    [
        ({"second": "local_s1", "third": "norm_HW"}, "too small for norm_HW: choose another operation"),
        ({"distance": "l2", "weight": 1e39}, "loss_detkds_global_p5 became infinite or NaN at iteration 0"),
    ],
)
def test_a_candidate_that_fails_counts_as_zero_and_says_why(quick_config, tmp_path, genes, failure):
    lines = []
    tried = Candidates(quick_config(CONFIG), str(tmp_path), iterations=1, report=lines.append)
    assert tried.score([{**FORM, **genes}]) == 0
    (path,) = tmp_path.glob("*.json")
    assert failure in json.loads(path.read_text())["failure"] and failure in lines[0]
    assert lines[0].startswith("AP   0.00  global 5.0 " if "weight" not in genes else "AP   0.00  global 1e+39 l2")


def test_score_is_the_metric_of_the_file(quick_config, tmp_path):
    """Another iteration, or another option, is another candidate."""
    options = {"report": [].append}
    tried = Candidates(quick_config(CONFIG), str(tmp_path), iterations=1, metric="bbox/AP50", **options)
    tried.score([FORM])
    (path,) = tmp_path.glob("*.json")
    contents = json.loads(path.read_text())
    assert contents["heads"] == [FORM] and contents["iterations"] == 1 and not contents["failure"]
    contents["results"]["bbox"] = {"AP": 12.0, "AP50": 34.0, "AP75": None}
    path.write_text(json.dumps(contents))
    for metric, score in {"bbox/AP": 12.0, "bbox/AP50": 34.0, "bbox/AP75": 0.0}.items():
        again = Candidates(quick_config(CONFIG), str(tmp_path), iterations=1, metric=metric, **options)
        assert again.score([FORM]) == score
    for metric in ("sem_seg/mIoU", "segm/AP", "bbox/AP99", "AP"):
        with pytest.raises(UserError, match=f"the metric is {metric}.*; the evaluator gives bbox/AP, bbox/AP50, bbox"):
            Candidates(quick_config(CONFIG), str(tmp_path), iterations=1, metric=metric, **options).score([FORM])
    contents["results"]["bbox"] = {"AP": None}  # nothing was detected, and so no mask either
    path.write_text(json.dumps(contents))
    assert Candidates(quick_config(CONFIG), str(tmp_path), iterations=1, metric="segm/AP", **options).score([FORM]) == 0
    Candidates(quick_config(CONFIG), str(tmp_path), iterations=2, **options).score([FORM])
    Candidates(quick_config(CONFIG, seed=1), str(tmp_path), iterations=1, **options).score([FORM])
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_a_teacher_trained_anew_makes_older_scores_stale(quick_config, tmp_path, monkeypatch):
    trained = []

    def train(config):
        trained.append(config.model.teacher.weights)
        return {"bbox": {"AP": 1.0}}

    monkeypatch.setattr(candidates, "train", train)
    teacher = tmp_path / "teacher.pth"
    for contents in ("a", "a", "b"):
        teacher.write_text(contents)
        result_fingerprint._hash_file.cache_clear()  # two writes may have one date
        config = quick_config(CONFIG, log_period=len(trained) + 1)  # which decides nothing
        config.model.teacher.weights = str(teacher)
        Candidates(config, str(tmp_path), iterations=1, report=[].append).score([FORM])
    assert len(trained) == 2
