"""Comparison of initial weights with a table of the original's."""

import math

import pytest


def assert_start(parameters, expected):
    """Compares each parameter's constant or distribution with an entry of the reference files, by name."""
    assert parameters.keys() == expected.keys()
    for name, entry in expected.items():
        value = parameters[name].detach()
        assert list(value.shape) == entry["shape"], name
        if entry["kind"] == "constant":
            assert value.flatten().tolist() == pytest.approx([entry["value"]] * value.numel(), abs=1e-5), name
            continue
        deviation, count = entry["expected_std"], value.numel()
        tolerance = 0.02 if count >= 100_000 else 4 / math.sqrt(2 * count)
        assert value.std().item() == pytest.approx(deviation, rel=tolerance), name
        assert abs(value.mean().item()) < 5 * deviation / math.sqrt(count), name
        is_uniform = (value.abs().max() < 1.01 * math.sqrt(3) * deviation).item()
        assert is_uniform == (entry["kind"] == "uniform"), name


def rename(table, names):
    """Returns a table of the original's under our names; the replacements are made in their order."""
    renamed = {}
    for name, entry in table.items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        renamed[name] = entry
    return renamed
