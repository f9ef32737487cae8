import math

import pytest
from cankd.utils import markdown_table, spread


def test_figures_stand_to_the_right_as_they_are():
    table = markdown_table([["a", "1.50", "2"], ["bc", "10", ""]], ["", "AP", "gain"])
    assert [line.replace(" ", "") for line in table.splitlines()] == [
        "||AP|gain|",
        "|:---|-----:|-------:|",
        "|a|1.50|2|",
        "|bc|10||",
    ]
    assert "| a  |" in table and "| 1.50 |" in table and "|   10 |" in table
    assert "|:--------|:-------|" in markdown_table([["a", "b"]], ["model", "part"], left=2)


@pytest.mark.parametrize(
    "values, text",
    [([20.0, 22.0], "21.0 ± 1.4"), ([20.04], "20.0"), ([math.nan, 3.0], "3.0"), ([math.nan], "–"), ([], "–")],
)
def test_spread(values, text):
    assert spread(values) == text
