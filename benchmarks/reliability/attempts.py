"""One attempt with one input, in a process of its own, and what came of it."""

import dataclasses
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from unittest import mock

import cv2
import torch
from cankd.utils import report_mistakes

__all__ = ["Attempt", "attempt"]

_TRACE = "Traceback (most recent call last)"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What an attempt ended with.

    Attributes:
        error: the line that a user's mistake ended in, or the last lines of a stack trace; "" if it was accepted.
        is_clear: whether the error is a line for users.
        is_hung: whether it was killed after its time.
        warnings: what was logged as a warning.
        value: what the function returned.
    """

    error: str = ""
    is_clear: bool = False
    is_hung: bool = False
    warnings: tuple[str, ...] = ()
    value: object = None


def attempt(function: Callable[[], object], *, limit: float = 60) -> Attempt:
    """Runs a function as a command of ours runs it, in a process that is forked from one with all modules imported.

    Args:
        function: is pickled, and so is its result.
        limit: seconds after which it is killed by SIGKILL.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.full_disks"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(function, sender, dict(os.environ)))
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # by which the first one finds modules
        process.start()
    sender.close()
    try:
        if receiver.poll(limit):
            return receiver.recv()
        _kill(process)
        return Attempt(is_hung=True)
    except EOFError:  # something within ended it
        process.join()
        return Attempt(error=f"the process ended with {process.exitcode}")
    finally:
        process.join()
        receiver.close()


def _kill(process):
    """Kills a process with its loaders' workers, which are of its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has no group yet
        process.kill()


class _Warnings(logging.Handler):
    """Keeps warnings, and what is logged with a stack trace."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages, self.traces = [], []

    def emit(self, record):
        self.messages.append(record.getMessage())
        if record.exc_info:
            self.traces.append("".join(traceback.format_exception(*record.exc_info)))


def _run(function, sender, environment):
    os.setpgid(0, 0)
    os.environ.update(environment)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryFile("w+") as printed:
        for descriptor in (1, 2):
            os.dup2(printed.fileno(), descriptor)
        warnings = _Warnings()
        for name in ("cankd", "detectron2", "fvcore", "py.warnings"):
            logging.getLogger(name).addHandler(warnings)
        logging.captureWarnings(True)
        error, is_clear, value = "", False, None
        try:
            value = report_mistakes()(function)()
        except SystemExit as status:
            error, is_clear = str(status.code), str(status.code).startswith("Error: ")
        except BaseException:
            error = _last_lines(traceback.format_exc())
        printed.seek(0)
        traces = [*warnings.traces, *(text for text in [printed.read()] if _TRACE in text)]
    if traces:  # beside a clear line, too
        error, is_clear = _last_lines(traces[0]), False
    sender.send(Attempt(error, is_clear, False, tuple(warnings.messages), value))
    sender.close()
    os._exit(0)


def _last_lines(text):
    return "".join(text.splitlines(keepends=True)[-7:])
