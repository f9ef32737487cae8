import pytest
from cankd.solver import PolynomialDecay


def test_decays_to_the_floor():
    schedule = PolynomialDecay(power=0.9, end_value=0.01)
    assert schedule(0.0) == 1 and schedule(1.0) == pytest.approx(0.01)
    assert schedule(0.5) == pytest.approx(0.01 + 0.99 * 0.5**0.9)
