import pytest
import torch
from cankd.modeling.distillation_heads.fkd_head import FKDHead
from detectron2.utils.events import EventStorage

from tests import published
from tests.largest_tensor import LargestTensor
from tests.tiny import batch, distiller


@pytest.mark.parametrize("name", ["fkd_one_stage", "fkd_two_stage"])
@pytest.mark.parametrize("dtype, tolerance", published.DTYPES, ids=str)
def test_equals_the_reference(name, dtype, tolerance):
    """The published implementation's values."""
    data = published.load(name)
    head = FKDHead(
        temperature=data["temperature"].item(),
        channel_mask=bool(data["use_channel_mask"]),
        pool_size=data["pool"].item(),
        inter_channels=len(data["param.student_non_local.theta.weight"]),
        **published.arguments(data),
    )
    published.assert_equals(head, data, dtype, tolerance)


def test_forms_nothing_larger_than_a_feature():
    """Neither positions × positions nor positions × pooled positions."""
    head = FKDHead(levels=["p3"], in_channels=8, inter_channels=4, pool_size=2)
    student, teacher = torch.randn(1, 8, 40, 40, requires_grad=True), torch.randn(1, 8, 40, 40)
    with LargestTensor() as largest:
        sum(head({"p3": student}, {"p3": teacher}).values()).backward()
    assert 0 < largest.elements <= student.numel()


def test_starts_as_published():
    """Non-local blocks add nothing, and all else starts as PyTorch starts it."""
    head = FKDHead(levels=["p2", "p3", "p4", "p5", "p6"], in_channels=256)
    x = torch.randn(2, 256, 8, 8)
    for blocks in (head.student_non_local, head.teacher_non_local):
        assert torch.equal(blocks["p2"](x, x), x)
        sizes = [(block.theta.out_channels, block.pool_size) for block in blocks.values()]
        assert sizes == [(64, 8), (64, 4), (128, 2), (128, 2), (128, 2)]
    for layer, fan_in in [
        (head.feature_adapter["p2"], 256),
        (head.channel_adapter["p2"], 256),
        (head.spatial_adapter["p2"], 9),
        (head.relation_adapter["p2"], 256),
        (head.student_non_local["p2"].theta, 256),
    ]:
        assert 0 < layer.weight.abs().max().item() <= fan_in**-0.5
        assert 0 < layer.bias.abs().max().item() <= fan_in**-0.5
        assert layer.weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.5)


def test_equal_features_have_a_gradient_of_zero():
    """A plain root would have none there."""
    head = FKDHead(levels=["p3"], in_channels=4, pool_size=2)
    with torch.no_grad():
        head.feature_adapter["p3"].weight.copy_(torch.eye(4)[:, :, None, None])
        head.feature_adapter["p3"].bias.zero_()
    student = torch.randn(2, 4, 6, 6, requires_grad=True)
    loss = head({"p3": student}, {"p3": student.detach()})["loss_fkd_feature_p3"]
    loss.backward()
    assert loss == 0 and not student.grad.any()


def test_attention_masks_carry_no_gradient():
    """The masked difference is linear in its adapter; a gradient through M and K would break that."""
    head = FKDHead(levels=["p3"], in_channels=4, pool_size=2, temperature=0.5).double()
    with torch.no_grad():
        head.feature_adapter["p3"].weight.zero_()
    student = torch.randn(2, 4, 6, 6, dtype=torch.double, requires_grad=True)
    head({"p3": student}, {"p3": torch.randn(2, 4, 6, 6).double()})["loss_fkd_feature_p3"].backward()
    assert not student.grad.any()


def test_trains_through_a_distiller(tmp_path):
    model = distiller(tmp_path, head=FKDHead()).train()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.01)
    for step in range(2):  # at first the non-local blocks' norm is zero, and nothing before it has a gradient
        with EventStorage(step):
            losses = model(batch(seed=step))
        assert set(model.head.loss_names) <= losses.keys() and len(model.head.loss_names) == 12
        optimizer.zero_grad()
        sum(loss for name, loss in losses.items() if "fkd" in name).backward()
        optimizer.step()
    assert all(loss.isfinite() for loss in losses.values())
    assert model.student.backbone.fpn_output3.weight.grad.any()
    for name, parameter in model.head.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_refuses_what_it_cannot_compare():
    head = FKDHead(levels=["p3"], in_channels=4)
    with pytest.raises(ValueError, match="level 'p3' is no map of positions, which fkd compares"):
        head({"p3": torch.randn(2, 4)}, {"p3": torch.randn(2, 4)})
    features = {"p3": torch.randn(2, 4, 7, 9)}
    with pytest.raises(ValueError, match="level 'p3' is 7×9, and pooling by 8 leaves no position"):
        head(features, features)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"temperature": 0.0}, "FKD's temperature is 0.0, which has to be above 0"),
        ({"weight_spatial": -1.0}, "'spatial': -1.0.* have to be 0 or more"),
        ({"pool_size": []}, "inter_channels and pool_size have to be a number, or one a level"),
        ({"pool_size": 0}, "pool_size=0 have to be at least 1"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FKDHead(**{"levels": ["p3"], "in_channels": 4, **arguments})
