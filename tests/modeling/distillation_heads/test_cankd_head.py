import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cankd.modeling import AFFINITIES, CanKDHead

from benchmarks.written_out import written_out_loss
from tests.largest_tensor import LargestTensor
from tests.references import reference

REFERENCES = [
    "cankd_concatenation",
    "cankd_dot_product",
    "cankd_dot_product_no_pool_odd",
    "cankd_embedded_gaussian",
    "cankd_gaussian",
    "cankd_no_instance_norm",
    "cankd_no_residual",
]


def randomize(head):
    """Moves the parameters away from their start, at which the attention is silent."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.5)


def gradients(loss, inputs, head):
    loss.backward()
    grads = {"student": inputs["p3"].grad, **{name: p.grad for name, p in head.named_parameters()}}
    inputs["p3"].grad = None
    head.zero_grad()
    return grads


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["float64", "float32"])
def test_equals_the_reference(name, dtype, tolerance):
    """The published implementation's values."""
    data = {k: torch.as_tensor(v) for k, v in np.load(reference(f"{name}.npz")).items()}
    affinity = next((key for key in AFFINITIES if name == f"cankd_{key}"), "dot_product")
    head = CanKDHead(
        levels=["p3"],
        in_channels=data["student"].shape[1],
        weight=data["mu"].item(),
        pool_size=int(data["pool"]),
        affinity=affinity,
        instance_norm="no_instance_norm" not in name,
        residual="no_residual" not in name,
    ).to(dtype)
    parameters = {k.removeprefix("param."): v for k, v in data.items() if k.startswith("param.")}
    incompatible = head.non_local["p3"].load_state_dict(parameters, strict=False)
    assert not incompatible.unexpected_keys
    assert all(k.startswith("norm.running") or k == "norm.num_batches_tracked" for k in incompatible.missing_keys)

    student = data["student"].to(dtype).requires_grad_()
    loss = head({"p3": student}, {"p3": data["teacher"].to(dtype)})["loss_cankd_p3"]
    loss.backward()

    torch.testing.assert_close(loss.double(), data["loss"], rtol=tolerance, atol=0)
    expected = {"student": data["grad_student"]}
    expected.update({k.removeprefix("grad."): v for k, v in data.items() if k.startswith("grad.")})
    found = {"student": student.grad, **{k: p.grad for k, p in head.non_local["p3"].named_parameters()}}
    assert found.keys() == expected.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    for key, value in expected.items():
        # What a normalisation cancels, but for a trace at most, is compared absolutely: rounding is all there is.
        scale = value.abs().max().item()
        bound = tolerance * scale if scale > 1e-4 * largest else max(1e-9, 1e-6 * largest * (dtype == torch.float32))
        torch.testing.assert_close(found[key].double(), value, rtol=tolerance, atol=bound, msg=lambda m: f"{key}: {m}")


@pytest.mark.parametrize("affinity", AFFINITIES)
@pytest.mark.parametrize("pool_size", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "residual, instance_norm, norm", [(True, True, "BN"), (False, True, "BN"), (True, True, ""), (True, False, "")]
)
def test_equals_the_written_out_form(affinity, pool_size, residual, instance_norm, norm):
    generator = torch.Generator().manual_seed(pool_size)
    for batch, channels, inter_channels, height, width in [(1, 6, None, 17, 19), (3, 5, 7, 18, 9)]:
        head = CanKDHead(
            levels=["p3"],
            in_channels=channels,
            inter_channels=inter_channels,
            affinity=affinity,
            pool_size=pool_size,
            residual=residual,
            instance_norm=instance_norm,
            norm=norm,
        ).double()
        randomize(head)
        size = (batch, channels, height, width)
        student = {"p3": torch.randn(size, generator=generator, dtype=torch.double).requires_grad_()}
        teacher = {"p3": torch.randn(size, generator=generator, dtype=torch.double)}
        loss = head(student, teacher)["loss_cankd_p3"]
        expected = written_out_loss(head, "p3", student["p3"], teacher["p3"])
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
        found, wanted = gradients(loss, student, head), gradients(expected, student, head)
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-8, atol=1e-10, msg=lambda m: f"{name}: {m}")


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_no_affinity_forms_a_positions_by_positions_matrix(affinity):
    head = CanKDHead(levels=["p3"], in_channels=8, affinity=affinity, pool_size=1)
    randomize(head)
    student, teacher = torch.randn(1, 8, 40, 40, requires_grad=True), torch.randn(1, 8, 40, 40)
    with LargestTensor() as largest:
        head({"p3": student}, {"p3": teacher})["loss_cankd_p3"].backward()
    assert 0 < largest.elements <= 2 * student.numel() + 1600


@pytest.mark.parametrize("norm", ["BN", ""])
def test_starts_with_the_students_own_feature(norm):
    head = CanKDHead(levels=["p3"], in_channels=8, weight=3.0, norm=norm)
    student, teacher = torch.randn(2, 8, 10, 12), torch.randn(2, 8, 10, 12)
    expected = 3 * F.mse_loss(F.instance_norm(student), F.instance_norm(teacher))
    torch.testing.assert_close(head({"p3": student}, {"p3": teacher})["loss_cankd_p3"], expected)
    plain = CanKDHead(levels=["p3"], in_channels=8, weight=3.0, attention=False)
    torch.testing.assert_close(plain({"p3": student}, {"p3": teacher})["loss_cankd_p3"], expected)
    assert not list(plain.parameters())


def test_loss_is_two_minus_twice_the_correlation():
    head = CanKDHead(levels=["p3", "p4"], in_channels=4, weight=1.0)
    student = {"p3": torch.randn(2, 4, 9, 7), "p4": torch.randn(2, 4, 5, 4)}
    teacher = {"p3": torch.randn(2, 4, 9, 7), "p4": 3 * student["p4"] - 1}
    losses, correlations = head(student, teacher), head.correlations(student, teacher)
    assert losses.keys() == {"loss_cankd_p3", "loss_cankd_p4"} and correlations.keys() == {"p3", "p4"}
    by_numpy = [
        np.corrcoef(student["p3"][n, c].flatten(), teacher["p3"][n, c].flatten())[0, 1]
        for n in range(2)
        for c in range(4)
    ]
    assert correlations["p3"].item() == pytest.approx(np.mean(by_numpy), abs=1e-4)
    assert correlations["p4"].item() == pytest.approx(1, abs=1e-4)
    for level in ("p3", "p4"):
        assert losses[f"loss_cankd_{level}"].item() == pytest.approx(2 * (1 - correlations[level].item()), abs=1e-4)


def test_stays_in_float32_under_autocast():
    head = CanKDHead(levels=["p3"], in_channels=8, student_channels=6)
    randomize(head)
    student, teacher = torch.randn(2, 6, 8, 8), torch.randn(2, 8, 8, 8)
    expected = head({"p3": student}, {"p3": teacher})["loss_cankd_p3"]
    with torch.autocast("cpu", torch.bfloat16):
        found = head({"p3": student}, {"p3": teacher})["loss_cankd_p3"]
        assert head.correlations({"p3": student.bfloat16()}, {"p3": teacher})["p3"].dtype == torch.float32
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_inactive_losses_touch_every_parameter_with_zero():
    head = CanKDHead(levels=["p3", "p4"], in_channels=4, student_channels=(4, 3))
    losses = head.inactive_losses(torch.ones(()))
    assert losses.keys() == {"loss_cankd_p3", "loss_cankd_p4"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"affinity": "cosine"}, "affinity is 'cosine'; it has to be one of .*'dot_product'"),
        ({"weight": -1.0}, "distillation weight is -1.0; it has to be 0 or more"),
        ({"weight": float("nan")}, "distillation weight is nan"),
        ({"levels": []}, "name each level to distil once"),
        ({"levels": ["p3", "p3"]}, "name each level to distil once"),
        ({"pool_size": 0}, "pool_size=0 have to be at least 1"),
        ({"norm": "FrozenBN"}, "norm is 'FrozenBN', whose weight stays at the zero"),
        ({"norm": "BatchNorm"}, "norm is 'BatchNorm', which Detectron2 does not know"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CanKDHead(**{"levels": ["p3"], "in_channels": 4, **arguments})


def test_refuses_a_level_with_one_position_left():
    head = CanKDHead(levels=["p5"], in_channels=4)
    with pytest.raises(ValueError, match="level 'p5' is 3×3, and pooling by 2 leaves fewer than 2 positions"):
        head({"p5": torch.randn(1, 4, 3, 3)}, {"p5": torch.randn(1, 4, 3, 3)})


@pytest.mark.parametrize("norm, kind", [("SyncBN", torch.nn.SyncBatchNorm), ("GN", torch.nn.GroupNorm)])
def test_other_norms_start_at_zero_too(norm, kind):
    module = CanKDHead(levels=["p3"], in_channels=64, norm=norm).non_local["p3"]
    assert isinstance(module.norm, kind)
    assert not module.norm.weight.any() and not module.norm.bias.any() and module.out.weight.any()
