import os
import signal
import threading
import time

import pytest
from cankd.engine import run_in_processes
from cankd.utils import Interrupted, UserError


def absolute(argument, number):
    return abs(argument)


def meet(folder, number):
    """Waits until two calls run at the same time, and returns the number of this one."""
    open(os.path.join(folder, str(os.getpid())), "w").close()
    while len(os.listdir(folder)) < 2:
        time.sleep(0.05)
    return number


def wait_long(seconds, number):
    time.sleep(seconds)


def vanish(status, number):
    os._exit(status)


def test_tells_each_result_as_it_ends():
    results = {}
    run_in_processes(absolute, [-1, 2, -3], 2, results.__setitem__)
    assert results == {-1: 1, 2: 2, -3: 3}


def test_calls_at_the_same_time_have_numbers_of_their_own(tmp_path):
    numbers = []
    run_in_processes(meet, [str(tmp_path)] * 3, 2, lambda _, number: numbers.append(number))
    assert sorted(numbers[:2]) == [0, 1] and numbers[2] in (0, 1)


def test_what_a_call_raises_is_raised():
    with pytest.raises(TypeError, match="bad operand"):
        run_in_processes(absolute, ["text"], 1, lambda *_: None)


def test_a_killed_process_is_named_as_the_reason():
    with pytest.raises(UserError, match="a process was killed from outside; .* memory"):
        run_in_processes(vanish, [1], 1, lambda *_: None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_processes_too_and_no_more_are_started(number):
    before = signal.getsignal(number)
    threading.Timer(1, os.kill, (os.getpid(), number)).start()
    start = time.monotonic()
    with pytest.raises(Interrupted) as interrupted:
        run_in_processes(wait_long, [100, 100], 1, lambda *_: None)
    assert interrupted.value.number == number and time.monotonic() - start < 50
    assert signal.getsignal(number) is before
