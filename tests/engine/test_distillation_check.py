import json
import re

import pytest
import torch
from cankd.engine import check_distillation
from detectron2.config import instantiate

CANKD = "DigitScenes/retinanet_R10_from_R18.py"
INHERIT = "DigitScenes/retinanet_R10_from_R18_inherit.py"


def check(config, **arguments):
    lines = []
    found = check_distillation(config, report=lines.append, **{"num_images": 4, **arguments})
    return found, "\n".join(lines)


def test_a_sound_distillation_is_ready(quick_config):
    found, text = check(quick_config(INHERIT))
    assert text.endswith("Ready.") and found["problems"] == []
    assert [row["student level"] for row in found["levels"]] == ["p3", "p4", "p5"]
    assert found["weights"]["teacher"] == {"loaded": 144, "missing": 0, "unexpected": 0, "reshaped": 0}
    assert found["weights"]["student"] is None and "starts from random weights" in text
    assert found["weights"]["inherited"] == 18
    assert found["teacher"]["images"] == 4 and found["teacher"]["bbox"]["AP"] > 20
    assert found["gradients"].keys() == {"p3", "p4", "p5"}
    student, teacher = (found["cost"][name] for name in ("student", "teacher"))
    assert student["parameters"] == 655182 and teacher["flops"] > 2 * student["flops"] > 0
    assert found["cost"]["teacher, distilled levels"]["flops"] < teacher["flops"]
    assert found["learning_rate"] == {"lr": 0.002, "total_batch_size": 2, "max_iter": 4}
    json.dumps(found)


def test_a_wrong_teacher_shows(quick_config, tmp_path):
    config = quick_config(CANKD)
    torch.save({"model": instantiate(config.model.teacher.model).state_dict()}, tmp_path / "untrained.pth")
    config.model.teacher.weights = str(tmp_path / "untrained.pth")
    found, text = check(config)
    assert "the teacher's bbox AP on 4 images is " in found["problems"][0] and "Not ready: 1 to mend." in text
    assert "gradients" in found
    assert check(config, num_images=0)[0]["problems"] == []


def test_all_problems_are_told_at_once(quick_config, tmp_path):
    config = quick_config(CANKD)
    config.model.teacher.weights = str(tmp_path / "absent.pth")
    config.dataloader.train.dataset.names = "no_such_data"
    (tmp_path / "file").touch()
    config.train.output_dir = str(tmp_path / "file" / "run")
    found, text = check(config)
    assert len(found["problems"]) == 3 and text.count("To mend: ") == 3
    for problem, expected in zip(found["problems"], ("cannot be written", "'no_such_data'", "no checkpoint .*absent")):
        assert re.search(expected, problem)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"levels": ["p3", "p9"]}, "no level 'p9'"),
        ({"in_channels": 256}, "in_channels is 256"),
    ],
)
def test_a_pair_that_does_not_fit(quick_config, change, expected):
    config = quick_config(CANKD)
    config.model.head.update(change)
    found, _ = check(config)
    assert len(found["problems"]) == 1 and expected in found["problems"][0]


def test_student_that_knows_too_few_classes(quick_config):
    config = quick_config(CANKD)
    config.model.student.num_classes = 3
    assert "predicts 3" in check(config, num_images=0)[0]["problems"][0]


def test_plain_config_is_refused(quick_config):
    found, _ = check(quick_config("DigitScenes/retinanet_R10.py"))
    assert found["problems"] == ["model is a RetinaNet: only the config of a distiller can be checked"]
