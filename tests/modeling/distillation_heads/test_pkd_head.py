import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cankd.modeling.distillation_heads.pkd_head import PKDHead
from detectron2.utils.events import EventStorage

from tests.references.parameterless import assert_equals_reference
from tests.tiny import batch, distiller


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["pkd", "pkd_resize"])
def test_equals_the_reference(name, dtype):
    assert_equals_reference(PKDHead, name, dtype)


def head(**options):
    return PKDHead(levels=["p3"], in_channels=4, weight=10.0, **options)


def loss(student, teacher, **options):
    return head(**options)({"p3": student}, {"p3": teacher})["loss_pkd_p3"]


def test_is_one_minus_the_correlation_over_images_and_positions():
    student, teacher = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6) + torch.randn(3, 4, 1, 1)
    correlations = [np.corrcoef(student[:, c].flatten(), teacher[:, c].flatten())[0, 1] for c in range(4)]
    unbiased = (3 * 5 * 6 - 1) / (3 * 5 * 6)
    assert loss(student, teacher).item() == pytest.approx(10 * unbiased * (1 - np.mean(correlations)), rel=1e-4)


def test_the_teacher_is_resized_on_request():
    student, teacher = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 10, 12)
    resized = F.interpolate(teacher, (5, 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss(student, teacher, resize_student=False), loss(student, resized))
    assert loss(student, teacher) != loss(student, resized)


def test_a_difference_in_width_alone_is_resized_too():
    student, teacher = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 12)
    resized = F.interpolate(student, (5, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss(student, teacher), loss(resized, teacher))


def test_positions_of_a_batch_are_enough_where_an_image_has_one():
    assert loss(torch.randn(2, 4, 1, 1), torch.randn(2, 4, 1, 1)).isfinite()


def test_trains_a_detector_also_between_levels_of_other_strides(tmp_path):
    """As from Mask R-CNN to RetinaNet, whose levels are one stride coarser."""
    model = distiller(tmp_path, head=PKDHead(levels=["p4", "p5"]), levels={"p4": "p3", "p5": "p4"}).train()
    with EventStorage():
        losses = model(batch())
    found = [losses["loss_pkd_p4"], losses["loss_pkd_p5"]]
    assert all(loss > 0 for loss in found)
    sum(found).backward()
    assert model.student.backbone.fpn_output5.weight.grad.any()


@pytest.mark.parametrize(
    "size, message",
    [
        ((2, 4), "level 'p3' is no map of positions, which pkd compares: use KDHead"),
        ((1, 4, 1, 1), "level 'p3' is 1×1 of one image, but PKD needs at least 2 values a channel"),
    ],
)
def test_refuses_features(size, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.randn(size), torch.randn(size))
