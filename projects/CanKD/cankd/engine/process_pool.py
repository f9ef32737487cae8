from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import Any

from cankd.utils import Interrupted, UserError

from .stop_signals import StopSignals

__all__ = ["run_in_processes"]


def run_in_processes(
    function: Callable[[Any, int], Any], arguments: Sequence, jobs: int, ended: Callable[[Any, Any], None]
) -> None:
    """Calls a function with each of several arguments, each in a process of its own.

    A signal that asks to stop is passed on to the processes, and no more are started.

    Args:
        function: and its arguments and results can be pickled. It gets an argument and a number below ``jobs``, which
            no other call has meanwhile: its GPU's, say.
        arguments: one for each call.
        jobs: processes at a time.
        ended: is called here, with argument and result, as each call ends. What it or the function raises is raised
            once the calls that run have ended.

    Raises:
        Interrupted: if a signal asked to end.
        UserError: if a process was killed.
    """
    waiting, running, free = list(arguments), {}, list(range(jobs))
    with (
        StopSignals(first=_pass_on, again=_pass_on) as signals,
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        try:
            while running or waiting and not signals.received:
                while waiting and free and not signals.received:
                    argument, number = waiting.pop(0), free.pop(0)
                    running[pool.submit(function, argument, number)] = argument, number
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    (argument, number), result = running.pop(future), future.result()
                    free.append(number)
                    if not signals.received:
                        ended(argument, result)
        except BrokenProcessPool as error:
            if not signals.received:
                raise UserError(
                    "a process was killed from outside; the system does that if memory runs out, and fewer jobs at a "
                    "time need less"
                ) from error
        if signals.received:
            raise Interrupted(signals.received)


def _pass_on(number):
    for process in active_children():
        process.terminate()
