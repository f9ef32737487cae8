import pytest
import torch
from cankd.modeling.distillation_heads.kd_head import KDHead
from cankd.modeling.levels import LevelPair
from detectron2.utils.events import EventStorage
from torch.distributions import Bernoulli, Categorical, kl_divergence

from tests.references.parameterless import assert_equals_reference
from tests.tiny import batch, distiller


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["kd", "kd_temperature_4"])
def test_equals_the_reference(name, dtype):
    assert_equals_reference(KDHead, name, dtype)


def logits(*size):
    return {"fc": 3 * torch.randn(size, dtype=torch.double)}, {"fc": 3 * torch.randn(size, dtype=torch.double)}


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("num_classes", [None, 4])
@pytest.mark.parametrize("size", [(5, 12), (2, 12, 3, 5)])
def test_is_the_divergence_of_the_classes(size, num_classes, sigmoid):
    """By torch's distributions: one of each image's classes, or of each position's and anchor's, or each by itself."""
    student, teacher = logits(*size)
    options = dict(temperature=2.5, sigmoid=sigmoid, num_classes=num_classes)
    head = KDHead(levels=["fc"], in_channels=12, weight=0.3, **options)
    rows = [x["fc"].movedim(1, -1).reshape(-1, num_classes or 12) / 2.5 for x in (teacher, student)]
    divergence = kl_divergence(*((Bernoulli if sigmoid else Categorical)(logits=row) for row in rows)).sum()
    divisor = 5 / 2.5**2 if len(size) == 2 else 2 * 12 * 3 * 5
    torch.testing.assert_close(head(student, teacher)["loss_kd_fc"], 0.3 * divergence / divisor)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_logits_far_from_zero_are_no_infinity(sigmoid):
    head = KDHead(levels=["fc"], in_channels=3, weight=1.0, sigmoid=sigmoid)
    student = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    loss = head({"fc": student}, {"fc": -student.detach()})["loss_kd_fc"]
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(400.0))
    assert student.grad.isfinite().all()


def test_trains_a_detector_on_its_class_logits(tmp_path):
    head = KDHead(levels=["head:0:0", "head:0:2"], sigmoid=True, num_classes=10)
    model = distiller(tmp_path, head=head).train()
    with EventStorage():
        losses = model(batch())
    found = [losses["loss_kd_head:0:0"], losses["loss_kd_head:0:2"]]
    assert all(loss > 0 for loss in found)
    sum(found).backward()
    assert model.student.head.cls_score.weight.grad.any() and model.student.backbone.fpn_output3.weight.grad.any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"temperature": 0.0}, "the temperature is 0.0; it has to be more than 0"),
        (
            {"student_channels": 5},
            "level 'fc' has 5 logits in the student and 12 in the teacher, but KD compares class",
        ),
        ({"num_classes": 5}, "head.num_classes is 5, but level 'fc' has 12 logits, which is no multiple"),
        ({"num_classes": 0}, "head.num_classes is 0, but level 'fc' has 12 logits"),
        ({"in_channels": 1}, "level 'fc' has one class, whose softmax is always 1: set head.sigmoid=True"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        KDHead(**{"levels": ["fc"], "in_channels": 12, **arguments})


@pytest.mark.parametrize("sizes", [[(2, 4), (2, 5)], [(2, 4), (2, 4, 1, 1)], [(2, 4, 6), (2, 4, 6)]])
def test_refuses_what_are_no_logits_of_one_shape(sizes):
    student, teacher = (torch.randn(size) for size in sizes)
    with pytest.raises(ValueError, match=r"level 'fc' is \(2, 4.*but KD compares logits .* of one shape"):
        KDHead(levels=["fc"], in_channels=4)({"fc": student}, {"fc": teacher})


def test_other_classes_are_no_matter_of_an_adapter():
    head = KDHead(levels=["fc"], in_channels=12)
    head.connect([LevelPair("fc", "fc", None, None, 5, 12)])
    with pytest.raises(ValueError, match=r"level 'fc' is \(2, 5\) in the student and \(2, 12\) in the teacher"):
        head({"fc": torch.randn(2, 5)}, {"fc": torch.randn(2, 12)})
