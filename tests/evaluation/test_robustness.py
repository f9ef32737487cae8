import math

import pytest
from cankd.data import Cell
from cankd.evaluation import severity_means, summarize_robustness

GRID = {
    Cell("clean", 0): {"bbox": {"AP": 40.0, "AP50": 60.0}},
    Cell("fog", 1): {"bbox": {"AP": 30.0, "AP50": 50.0}},
    Cell("fog", 2): {"bbox": {"AP": 20.0, "AP50": 40.0}},
    Cell("snow", 1): {"bbox": {"AP": 10.0, "AP50": 30.0}},
    Cell("snow", 2): {"bbox": {"AP": math.nan, "AP50": None}},  # nothing was detected at all
}


def test_mean_and_relative_performance_under_corruption():
    assert summarize_robustness(GRID, "bbox", "AP") == {"clean": 40, "mPC": 15, "rPC": 37.5}  # (30 + 20 + 10 + 0) / 4
    assert summarize_robustness(GRID, "bbox", "AP50") == {"clean": 60, "mPC": 30, "rPC": 50}


def test_what_cannot_be_known_is_none():
    corrupted = {cell: found for cell, found in GRID.items() if cell.severity}
    assert summarize_robustness(corrupted, "bbox", "AP") == {"clean": None, "mPC": 15, "rPC": None}
    clean = {Cell("clean", 0): {"bbox": {"AP": 0.0}}}
    assert summarize_robustness(clean, "bbox", "AP") == {"clean": 0, "mPC": None, "rPC": None}


@pytest.mark.parametrize(
    "corruptions, expected", [(("fog", "snow"), {0: 40, 1: 20, 2: 10}), (("fog", "frost"), {0: 40, 1: 30, 2: 20})]
)
def test_means_by_severity(corruptions, expected):
    assert severity_means(GRID, "bbox", "AP", corruptions) == expected
