import math

import pytest
from cankd.analysis.gradient_balance import suggest_weight


@pytest.mark.parametrize(
    "weight, ratio, expected",
    [
        (5.0, 64.0, None),
        (5.0, 0.01, None),
        (5.0, 1000.0, None),
        (500.0, 6400.0, 7.8),  # 500 · 100 / 6400 = 7.81
        (0.05, 0.0023, 2.2),  # 0.05 · 0.1 / 0.0023 = 2.17
        (5.0, 0.0, None),  # nothing reaches the student
        (5.0, math.inf, None),
        (5.0, math.nan, None),
    ],
)
def test_suggested_weight(weight, ratio, expected):
    assert suggest_weight(weight, ratio) == expected
