import pytest
import torch
import torch.nn.functional as F
from cankd.modeling.distillation_heads.mgd_head import MGDHead
from detectron2.utils.events import EventStorage

from tests import published
from tests.tiny import batch, distiller


@pytest.mark.parametrize("name", ["mgd", "mgd_adapter", "mgd_channel"])
@pytest.mark.parametrize("dtype, tolerance", published.DTYPES, ids=str)
def test_equals_the_reference(name, dtype, tolerance):
    """The published implementation's values, for the mask that it drew."""
    data = published.load(name)
    head = MGDHead(
        masked_fraction=data["masked_fraction"].item(), mask_channels="channel" in name, **published.arguments(data)
    )
    assert head.draw_mask(data["teacher"]).shape == data["mask"].shape
    head.draw_mask = lambda x: data["mask"].to(x)
    published.assert_equals(head, data, dtype, tolerance)


@pytest.mark.parametrize("mask_channels, shape", [(False, (2, 1, 80, 60)), (True, (2, 4000, 1, 1))])
def test_masks_a_share_and_never_the_same(mask_channels, shape):
    head = MGDHead(masked_fraction=0.8, mask_channels=mask_channels)
    x = torch.empty(2, 4000, 2, 1, dtype=torch.double) if mask_channels else torch.empty(2, 3, 80, 60)
    masks = [head.draw_mask(x) for _ in range(2)]
    assert masks[0].shape == shape and masks[0].dtype == x.dtype and set(masks[0].unique().tolist()) == {0, 1}
    assert masks[0].mean().item() == pytest.approx(0.2, abs=0.02)
    assert not torch.equal(*masks)


def test_masks_leave_the_other_random_numbers_alone():
    """Baseline and distilled student see the same batches."""
    state = torch.get_rng_state()
    masks = [MGDHead(seed=seed).draw_mask(torch.empty(1, 1, 20, 20)) for seed in (0, 0, 1)]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_all_positions_are_the_target():
    """With everything masked the generator gives its bias, and the loss is the teacher's distance from that."""
    head = MGDHead(levels=["p3"], in_channels=3, weight=0.5)
    head.draw_mask = torch.zeros_like
    student, teacher = torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1)
    generator = head.masked_generator["p3"]
    centre = generator.conv2.weight[:, :, 1, 1] @ F.relu(generator.conv1.bias) + generator.conv2.bias
    expected = 0.5 * (teacher.flatten(1) - centre).square().sum() / 2
    torch.testing.assert_close(head({"p3": student}, {"p3": teacher})["loss_mgd_p3"], expected)


def test_starts_as_published():
    head = MGDHead(levels=["p3"], in_channels=256)
    for convolution in (head.masked_generator["p3"].conv1, head.masked_generator["p3"].conv2):
        for parameter in convolution.parameters():
            assert parameter.abs().max().item() == pytest.approx((256 * 9) ** -0.5, rel=0.02)
    assert sum(p.numel() for p in head.parameters()) == 1_180_160


def test_trains_through_a_distiller(tmp_path):
    model = distiller(tmp_path, head=MGDHead()).train()
    with EventStorage():
        losses = model(batch())
    assert {"loss_mgd_p3", "loss_mgd_p4", "loss_mgd_p5"} <= losses.keys()
    assert all(loss.isfinite() for loss in losses.values())
    sum(loss for name, loss in losses.items() if "mgd" in name).backward()
    assert model.student.backbone.fpn_output3.weight.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in model.head.parameters())


def test_refuses_logits():
    head = MGDHead(levels=["classifier"], in_channels=4, student_channels=3)
    with pytest.raises(ValueError, match="level 'classifier' is no map of positions, which mgd compares"):
        head({"classifier": torch.randn(2, 3)}, {"classifier": torch.randn(2, 4)})


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_refuses_arguments(fraction):
    with pytest.raises(ValueError, match="masked_fraction is .*; it has to be at least 0 and below 1"):
        MGDHead(masked_fraction=fraction)
