import pytest
import torch
from cankd.modeling.distillation_heads.at_head import ATHead
from detectron2.utils.events import EventStorage

from tests.references.parameterless import assert_equals_reference
from tests.tiny import batch, distiller


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_reference(dtype):
    assert_equals_reference(ATHead, "at", dtype)


def test_by_hand():
    """Mean squares (1, 0) and (0, 9) over channels are (1, 0) and (0, 1) at unit length."""
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).reshape(1, 2, 1, 2)
    teacher = torch.tensor([[0.0, -3.0], [0.0, 3.0], [0.0, 3.0]]).reshape(1, 3, 1, 2)
    head = ATHead(levels=["res2"], in_channels=3, student_channels=2)
    assert head({"res2": student}, {"res2": teacher})["loss_at_res2"].item() == 1000
    assert head({"res2": 0 * student}, {"res2": teacher})["loss_at_res2"].item() == 500


def test_trains_residual_groups_of_other_widths_without_adapters(tmp_path):
    groups = [f"backbone.bottom_up.res{i}" for i in (2, 3, 4, 5)]
    model = distiller(tmp_path, head=ATHead(levels=groups)).train()
    assert all(pair.student_channels != pair.teacher_channels for pair in model.pairs)
    assert not list(model.head.parameters())
    with EventStorage():
        losses = model(batch())
    found = [losses[f"loss_at_{group}"] for group in groups]
    assert all(loss > 0 for loss in found)
    sum(found).backward()
    assert all(model.student.get_submodule(group)[-1].conv2.weight.grad.any() for group in groups)


@pytest.mark.parametrize(
    "student, teacher, message",
    [
        ((2, 4), (2, 4), "level 'x' is no map of positions, which at compares: use KDHead"),
        ((2, 4, 3, 3), (2, 4), "'x' is no map of positions, which at compares"),
        ((2, 4), (2, 4, 3, 3), "'x' is no map of positions, which at compares"),
        (
            (2, 4, 3, 5),
            (2, 4, 3, 6),
            "level 'x' is 3×5 in the student and 3×6 in the teacher, but AT compares position",
        ),
        ((2, 4, 1, 1), (2, 4, 1, 1), "level 'x' is 1×1, but AT needs at least 2 positions: train on larger images"),
    ],
)
def test_refuses_features(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        ATHead(levels=["x"], in_channels=4)({"x": torch.randn(student)}, {"x": torch.randn(teacher)})
