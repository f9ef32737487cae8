import pytest
import torch
from cankd.modeling.distillation_heads.cwd_head import CWDHead
from detectron2.utils.events import EventStorage
from torch.distributions import Categorical, kl_divergence

from tests.references.parameterless import assert_equals_reference
from tests.tiny import batch, distiller


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["cwd", "cwd_temperature_4"])
def test_equals_the_reference(name, dtype):
    assert_equals_reference(CWDHead, name, dtype)


def test_an_adapter_comes_first_where_channels_differ():
    head = CWDHead(levels=["p3"], in_channels=6, student_channels=4, weight=2.0, temperature=3.0)
    student, teacher = torch.randn(2, 4, 5, 7), torch.randn(2, 6, 5, 7)
    loss = head({"p3": student}, {"p3": teacher})["loss_cwd_p3"]
    over_positions = [Categorical(logits=x.flatten(2) / 3) for x in (teacher, head.adapters["p3"](student))]
    torch.testing.assert_close(loss, 2 * 9 * kl_divergence(*over_positions).mean())
    loss.backward()
    assert head.adapters["p3"].weight.grad.any()


def test_a_channel_may_gain_a_constant():
    """The softmax does not see it."""
    head = CWDHead(levels=["p3"], in_channels=3)
    teacher = torch.randn(2, 3, 4, 5)
    loss = head({"p3": teacher + torch.randn(2, 3, 1, 1)}, {"p3": teacher})["loss_cwd_p3"]
    torch.testing.assert_close(loss, torch.tensor(0.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [["p3", "p5"], ["head:0:1"]], ids=["features", "logits"])
def test_trains_a_detector(tmp_path, levels):
    model = distiller(tmp_path, head=CWDHead(levels=levels)).train()
    with EventStorage():
        losses = model(batch())
    found = [losses[f"loss_cwd_{level}"] for level in levels]
    assert all(loss > 0 for loss in found)
    sum(found).backward()
    assert model.student.backbone.bottom_up.res4[0].conv1.weight.grad.any()


@pytest.mark.parametrize(
    "student, teacher, message",
    [
        ((2, 4), (2, 4), "level 'x' is no map of positions, which cwd compares: use KDHead"),
        ((2, 4, 3, 5), (2, 4, 6, 10), "level 'x' is 3×5 in the student and 6×10 in the teacher, but CWD compares"),
        ((2, 4, 1, 1), (2, 4, 1, 1), "level 'x' is 1×1, but CWD needs at least 2 positions: train on larger images"),
    ],
)
def test_refuses_features(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        CWDHead(levels=["x"], in_channels=4)({"x": torch.randn(student)}, {"x": torch.randn(teacher)})


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=f"the temperature is {temperature}; it has to be more than 0"):
        CWDHead(levels=["x"], in_channels=4, temperature=temperature)
