import functools
import logging
import os
import time
import warnings

import pytest
from cankd.utils import UserError
from reliability.attempts import Attempt, attempt
from reliability.outcomes import Outcome, judge


def raise_error(error):
    raise error


def log_trace_and_mistake():
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("detectron2").exception("it fails")
    raise UserError("what a user can mend")


def warn():
    logging.getLogger("cankd.data").warning("a box is left out")
    warnings.warn("beware")
    return 7


def test_what_an_attempt_ended_with():
    result = attempt(functools.partial(raise_error, UserError("what a user can mend")))
    assert result == Attempt(error="Error: what a user can mend", is_clear=True)
    result = attempt(functools.partial(raise_error, KeyError("bug")))
    assert "KeyError: 'bug'" in result.error and not result.is_clear
    result = attempt(log_trace_and_mistake)
    assert "ZeroDivisionError" in result.error and not result.is_clear
    assert attempt(functools.partial(os._exit, 3)) == Attempt(error="the process ended with 3")
    assert attempt(functools.partial(time.sleep, 600), limit=1) == Attempt(is_hung=True)
    result = attempt(warn)
    assert (result.error, result.value) == ("", 7)
    assert result.warnings[0] == "a box is left out" and "beware" in result.warnings[1]


@pytest.mark.parametrize(
    "result, facts, outcome",
    [
        (Attempt(error="Error: x", is_clear=True), {}, Outcome.CLEAR),
        (Attempt(error="Error: x", is_clear=True), {"is_lost": True}, Outcome.LOST),
        (Attempt(error="Error: x", is_clear=True), {"is_lost": True, "is_executed": True}, Outcome.EXECUTED),
        (Attempt(error="KeyError"), {"is_harmless": True}, Outcome.TRACE),
        (Attempt(is_hung=True), {}, Outcome.HUNG),
        (Attempt(), {"is_harmless": True}, Outcome.HARMLESS),
        (Attempt(), {}, Outcome.SILENT),
        (Attempt(warnings=("usual",)), {"usual_warnings": {"usual"}}, Outcome.SILENT),
        (Attempt(warnings=("usual", "new")), {"usual_warnings": {"usual"}}, Outcome.WARNED),
    ],
)
def test_an_attempt_is_judged_by_the_worst(result, facts, outcome):
    assert judge(result, **{"is_harmless": False, "is_lost": False, "is_executed": False, **facts}) == outcome
