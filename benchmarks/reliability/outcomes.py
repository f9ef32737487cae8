"""How an attempt with a bad input is judged."""

import enum
from collections.abc import Sequence

from .attempts import Attempt

__all__ = ["Outcome", "judge"]


class Outcome(enum.StrEnum):
    """What came of a bad input. A line, a warning or no harm is as it should be."""

    CLEAR = "clear line"
    WARNED = "warning"
    HARMLESS = "harmless"
    TRACE = "stack trace"
    SILENT = "silent"
    HUNG = "hung"
    LOST = "lost"
    EXECUTED = "executed"


def judge(
    result: Attempt, *, is_harmless: bool, is_lost: bool, is_executed: bool, usual_warnings: Sequence[str] = ()
) -> Outcome:
    """Judges an attempt, by the worst that happened.

    Args:
        result: of the attempt.
        is_harmless: whether the input, strange as it is, may be accepted.
        is_lost: whether a file that was there before is damaged or absent.
        is_executed: whether code in the input was run.
        usual_warnings: what is warned of with a sound input, too.
    """
    if is_executed:
        return Outcome.EXECUTED
    if is_lost:
        return Outcome.LOST
    if result.is_hung:
        return Outcome.HUNG
    if result.error:
        return Outcome.CLEAR if result.is_clear else Outcome.TRACE
    if is_harmless:
        return Outcome.HARMLESS
    return Outcome.WARNED if set(result.warnings) - set(usual_warnings) else Outcome.SILENT
