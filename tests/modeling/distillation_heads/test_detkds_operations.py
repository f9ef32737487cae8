import numpy as np
import pytest
import torch
from cankd.modeling.distillation_heads.detkds_operations import (
    DISTANCES,
    FIRST_OPERATIONS,
    FLATTENS,
    NEEDS_BATCH,
    RANDOM_FACTORS,
    RESIZES,
    SECOND_OPERATIONS,
    THIRD_OPERATIONS,
)

from tests.published import DTYPES, load

OPERATIONS = {"first": FIRST_OPERATIONS, "second": SECOND_OPERATIONS, "third": THIRD_OPERATIONS}
PRECISIONS = pytest.mark.parametrize("dtype, tolerance", DTYPES, ids=["float64", "float32"])


@pytest.fixture
def data():
    return load("detkds_operations")


def assert_near(found, expected, tolerance, name):
    """Compares to the array's largest entry; a gradient that is zero by construction is rounding alone."""
    scale = expected.abs().max().item()
    bound = tolerance * scale if scale > 1e-12 else tolerance
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound, msg=lambda m: f"{name}: {m}")


@PRECISIONS
def test_operations_equal_the_reference(data, dtype, tolerance):
    """Of each step, the output and the gradient of ``sum_k sin(k) output_k``."""
    operations = {f"{step}.{name}": found for step, table in OPERATIONS.items() for name, found in table.items()}
    operations["first.mask"] = lambda feature: feature * data["mask"].to(feature)
    names = [name for name in data if name.split(".")[0] in OPERATIONS]
    assert len(names) == 5 + 8 + 14 and set(operations) - set(names) == {"third.bmm", "third.mm"}
    for name in names:
        feature = data["student"].to(dtype, copy=True).requires_grad_()
        found = operations[name](feature)
        assert found.shape == data[name].shape
        found.flatten().double().dot(torch.arange(found.numel(), dtype=torch.double).sin()).backward()
        assert_near(found, data[name], tolerance, name)
        assert_near(feature.grad, data[f"grad_{name}"], tolerance, f"grad_{name}")


@PRECISIONS
@pytest.mark.parametrize("form", ["map", "rows"])
def test_distances_equal_the_reference(data, dtype, tolerance, form):
    for name, distance in DISTANCES.items():
        student = data["student"].to(dtype, copy=True).requires_grad_()
        inputs = student, data["teacher"].to(dtype)
        if name == "kl":
            inputs = student.log_softmax(1), inputs[1].softmax(1)
        found = distance(*(x.flatten(2) if form == "rows" else x for x in inputs))
        found.backward()
        assert_near(found, data[f"distance_{form}.{name}"], tolerance, name)
        assert_near(student.grad, data[f"grad_distance_{form}.{name}"], tolerance, f"grad_{name}")


def test_gram_matrices_are_those_of_numpy():
    feature = torch.randn(3, 4, 5, 2)
    expected = np.einsum("ncp,ndp->ncd", *[feature.flatten(2).numpy()] * 2)
    np.testing.assert_allclose(THIRD_OPERATIONS["bmm"](feature), expected, rtol=1e-4, atol=1e-5)
    expected = np.einsum("nk,mk->nm", *[feature.flatten(1).numpy()] * 2)
    np.testing.assert_allclose(THIRD_OPERATIONS["mm"](feature), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name, shape, values, share",
    [("mask", (8, 1, 60, 50), {0.0, 1.0}, 0.65), ("drop", (8, 900, 1, 1), {0.0, 1 / 0.9}, 0.1)],
)
def test_random_factors(name, shape, values, share):
    feature = torch.zeros(8, 900 if name == "drop" else 3, 60, 50)
    draw = RANDOM_FACTORS[name]
    factor = draw(feature, torch.Generator().manual_seed(1))
    assert factor.shape == shape and torch.allclose(factor.unique(), torch.tensor(sorted(values)))
    assert (factor == 0).float().mean().item() == pytest.approx(share, abs=0.02)
    assert torch.equal(factor, draw(feature, torch.Generator().manual_seed(1)))
    assert not torch.equal(factor, draw(feature, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("name", ["satt", "catt"])
def test_an_attention_that_is_rounded_to_zero_has_a_finite_gradient(name):
    feature = torch.ones(1, 4, 3, 3)
    feature[0, 0, 0, 0] = 1000
    feature.requires_grad_()
    FIRST_OPERATIONS[name](feature).sum().backward()
    assert feature.grad.isfinite().all()


def test_groups_name_what_they_say():
    """Sizes change, positions vanish, and of a single image nothing is left."""
    feature = torch.randn(3, 4, 8, 8, dtype=torch.double)
    assert {n for n, f in SECOND_OPERATIONS.items() if f(feature).shape != feature.shape} == RESIZES
    assert {n for n, f in THIRD_OPERATIONS.items() if f(feature).ndim != 4} == FLATTENS
    vanishing = {
        name for name, f in (FIRST_OPERATIONS | THIRD_OPERATIONS).items() if f(feature[:1]).abs().unique().numel() == 1
    }
    assert vanishing | {"cor"} == NEEDS_BATCH
