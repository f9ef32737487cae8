"""Compares methods that train nothing with their values."""

import numpy as np
import torch

from tests.references import reference

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}


def assert_equals_reference(head_type, name, dtype):
    """Asserts that loss and gradient are those of a case, relative to an array's largest entry.

    Weight, temperature and shapes are the file's.
    """
    data = {key: torch.as_tensor(value) for key, value in np.load(reference(f"{name}.npz")).items()}
    arguments = {key: data[key].item() for key in ("weight", "temperature") if key in data}
    channels = {"student_channels": data["student"].shape[1], "in_channels": data["teacher"].shape[1]}
    head = head_type(levels=["level"], **channels, **arguments)
    assert not list(head.parameters())

    student = data["student"].to(dtype).requires_grad_()
    (loss,) = head({"level": student}, {"level": data["teacher"].to(dtype)}).values()
    loss.backward()

    for found, expected in [(loss.detach(), data["loss"]), (student.grad, data["grad_student"])]:
        bound = TOLERANCES[dtype] * expected.abs().max().item()
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound)
