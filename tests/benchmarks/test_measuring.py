import itertools

import torch

from benchmarks.measuring import peak_growth, ratio, take_turns


def test_steps_take_turns_after_a_round_that_warms_up():
    order = []
    seconds = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, "cpu")
    assert order == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_a_limit_leaves_at_least_one_measurement():
    assert [len(values) for values in take_turns({"a": lambda: None}, 5, "cpu", longest=0).values()] == [1]


def test_short_steps_are_measured_more_often(monkeypatch):
    monkeypatch.setattr("time.perf_counter", itertools.count().__next__)  # each look at the clock is a second later
    assert len(take_turns({"a": lambda: None}, 2, "cpu", shortest=30)["a"]) == 9


def test_ratio_is_the_median_of_pairs():
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == "2.00 (1.00–3.00)"


def test_peak_growth_forgets_what_was_before():
    torch.ones(2**26)  # 256 MiB that are gone
    kept = []
    growth = peak_growth(lambda: kept.append(torch.ones(2**24)), "cpu")
    assert 60 <= growth <= 100  # 64 MiB
