"""Comparison of a head with one level, "p3", with the values of a method's published implementation."""

import numpy as np
import torch

from tests.references import reference

DTYPES = [(torch.float64, 1e-9), (torch.float32, 1e-4)]
"""With the tolerance of each, relative to the largest entry."""

NAMES = {"adapter": "adapters", "generator": "masked_generator"}
"""What learned parts are called in the files and here, where that differs."""


def load(name):
    """Returns a file's arrays, float64."""
    return {key: torch.as_tensor(value) for key, value in np.load(reference(f"{name}.npz")).items()}


def arguments(data):
    """Returns the head's level and channels, and the weights that the file names."""
    weights = {key: value.item() for key, value in data.items() if key.startswith("weight")}
    channels = dict(in_channels=data["teacher"].shape[1], student_channels=data["student"].shape[1])
    return dict(levels=["p3"], **channels, **weights)


def assert_equals(head, data, dtype, tolerance, context=None, part_weights=None):
    """Asserts that losses and all gradients are the file's.

    Args:
        head: as the file has it; it gets the file's parameters.
        data: from :func:`load`.
        dtype, tolerance: of :data:`DTYPES`.
        context: of the step.
        part_weights: by term, where the file's parts are unweighted.
    """
    load_parameters(head.to(dtype), data)
    student = data["student"].to(dtype).requires_grad_()
    losses = head({"p3": student}, {"p3": data["teacher"].to(dtype)}, context)
    total = sum(losses.values())
    total.backward()
    assert losses.keys() == set(head.loss_names)
    torch.testing.assert_close(total.double(), data["loss"], rtol=tolerance, atol=0)
    for term in head.terms:
        expected = data[f"part_{term}"] * (part_weights[term] if part_weights else 1)
        torch.testing.assert_close(losses[f"loss_{head.name}_{term}_p3"].double(), expected, rtol=tolerance, atol=0)
    expected = {"student": data["grad_student"]} | _arrays(data, "grad.")
    found = {"student": student.grad} | {name: p.grad for name, p in head.named_parameters()}
    assert found.keys() == expected.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    for key, value in expected.items():
        scale = value.abs().max().item()
        # What a softmax or a normalisation cancels is rounding alone.
        rounding = max(1e-9, 1e-6 * largest * (dtype == torch.float32))
        bound = tolerance * scale if scale > 1e-12 * largest else rounding
        torch.testing.assert_close(found[key].double(), value, rtol=0, atol=bound, msg=lambda m: f"{key}: {m}")


def load_parameters(head, data):
    """Gives a head all of a file's parameters; running statistics of norms stay."""
    incompatible = head.load_state_dict(_arrays(data, "param."), strict=False)
    assert not incompatible.unexpected_keys
    assert not set(incompatible.missing_keys) & dict(head.named_parameters()).keys()


def _arrays(data, prefix):
    """Returns the arrays of a prefix under the names that the head's parameters have."""
    arrays = {}
    for key in data:
        if key.startswith(prefix):
            part, rest = key.removeprefix(prefix).split(".", 1)
            arrays[f"{NAMES.get(part, part)}.p3.{rest}"] = data[key]
    return arrays
