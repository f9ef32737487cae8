"""Weights that PyTorch would load without a word."""

import pytest
import torch
from cankd.checkpoint import load_all_weights, read_weights
from cankd.utils import UserError
from torch import nn


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pth"


def save(path, weights):
    torch.save({"model": weights}, path)


def test_bytes_that_have_changed_are_found(path):
    save(path, {"weight": torch.zeros(2000)})
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 255
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="model.pth .* cannot be read as a checkpoint.* has changed since it was writ"):
        read_weights(str(path))


class Settings:
    pass


def test_code_is_named_and_not_run(path):
    torch.save({"model": {"weight": torch.ones(2)}, "settings": Settings()}, path)
    with pytest.raises(
        ValueError, match=r"or hold code, which is not run: \S*Settings is in it. Save the weights alone"
    ):
        read_weights(str(path))


def test_a_file_without_checksums_is_read(path):
    torch.serialization.set_crc32_options(False)
    try:
        save(path, {"weight": torch.ones(2000)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_weights(str(path))["weight"], torch.ones(2000))


@pytest.mark.parametrize(
    "name, value",
    [
        ("weight", torch.ones(2, dtype=torch.complex64)),
        ("weight", torch.ones(2).to_sparse()),
        (7, torch.ones(2)),
    ],
)
def test_what_is_no_weight_is_named(path, name, value):
    save(path, {name: value})
    with pytest.raises(ValueError, match=f"is no checkpoint of Detectron2: instead of weights, .* it has {name}"):
        read_weights(str(path))


@pytest.mark.parametrize(
    "spoil, fault",
    [
        (lambda weight: weight.index_fill(0, torch.tensor([2]), torch.nan), "has values that are NaN or infinite"),
        (lambda weight: weight.index_fill(0, torch.tensor([2]), torch.inf), "has values that are NaN or infinite"),
        (lambda weight: weight.round().to(torch.int8), "is of torch.int8"),
    ],
)
def test_weights_that_cannot_be_computed_with_are_refused(tmp_path, spoil, fault):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weights = {**model.state_dict(), "1.weight": spoil(torch.ones(3)), "1.bias": spoil(torch.ones(3))}
    path = tmp_path / "spoilt.pth"
    torch.save({"model": weights}, path)
    with pytest.raises(UserError, match=f"spoilt.pth cannot be used: its weight 1.weight {fault}"):
        load_all_weights(model, str(path), "student")


def test_integers_and_faults_that_the_model_does_not_compute_with_are_no_fault(tmp_path):
    model = nn.BatchNorm1d(3)
    weights = {**model.state_dict(), "of another model": torch.tensor([torch.nan])}
    weights["weight"] = weights["weight"].half()
    torch.save({"model": weights}, tmp_path / "sound.pth")
    assert len(load_all_weights(model, str(tmp_path / "sound.pth"), "student").loaded) == 5
