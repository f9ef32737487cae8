import pytest
from cankd.analysis import cost_table, count_config_costs


@pytest.mark.parametrize("name", ["retinanet_R10_from_R18", "faster_rcnn_R10_from_R18", "semantic_fpn_R10_from_R18"])
def test_costs_of_a_distillation(quick_config, name):
    config = quick_config(f"DigitScenes/{name}.py")
    config.model.teacher.weights = "is/not/needed.pth"
    costs = count_config_costs(config, 96, 128)
    assert list(costs) == ["student", "teacher", "teacher, distilled levels", "head"]
    student, teacher, levels, head = (by_part["total"] for by_part in costs.values())
    assert 0 < head["flops"] < student["flops"] < levels["flops"] < teacher["flops"]
    assert costs["student"]["backbone"]["parameters"] == 434768
    assert "| head " in cost_table(costs) and "| anchor_generator" not in cost_table(costs)


def test_costs_of_a_plain_model(quick_config):
    costs = count_config_costs(quick_config("DigitScenes/retinanet_R10.py"), 160, 160)
    assert costs["model"]["total"]["parameters"] == 655182
    assert len(cost_table(costs, parts=["total"]).splitlines()) == 3
