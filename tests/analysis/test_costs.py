import pytest
import torch
from cankd.analysis import cost_table, count_config_costs
from cankd.engine.measurements import count_by_part
from torch import nn


def test_parts_of_a_toy_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(4 * 36, 5)).train()
    counted = count_by_part(model, torch.zeros(1, 3, 6, 6))
    assert counted["0"] == {"parameters": 108, "flops": 108 * 36, "activations": 144}
    assert counted["2"] == {"parameters": 725, "flops": 720, "activations": 5}
    assert counted["total"] == {"parameters": 833, "flops": 108 * 36 + 720, "activations": 149}
    assert model.training


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
