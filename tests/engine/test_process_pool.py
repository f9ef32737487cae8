import os
import signal
import threading
import time

import pytest
from cankd.engine import run_in_processes
from cankd.utils import Interrupted, UserError


def test_tells_each_result_as_it_ends():
    results = {}
    run_in_processes(abs, [-1, 2, -3], 2, results.__setitem__)
    assert results == {-1: 1, 2: 2, -3: 3}


def test_what_a_call_raises_is_raised():
    with pytest.raises(TypeError, match="bad operand"):
        run_in_processes(abs, ["text"], 1, lambda *_: None)


def test_a_killed_process_is_named_as_the_reason():
    with pytest.raises(UserError, match="a process was killed from outside; .* memory"):
        run_in_processes(os._exit, [1], 1, lambda *_: None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_processes_too_and_no_more_are_started(number):
    before = signal.getsignal(number)
    threading.Timer(1, os.kill, (os.getpid(), number)).start()
    start = time.monotonic()
    with pytest.raises(Interrupted) as interrupted:
        run_in_processes(time.sleep, [100, 100], 1, lambda *_: None)
    assert interrupted.value.number == number and time.monotonic() - start < 50
    assert signal.getsignal(number) is before
