import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
    _SIGNALS += (signal.SIGHUP,)


class StopSignals(contextlib.AbstractContextManager):
    """Catches, while entered, what asks a process to end: SIGTERM (SLURM, Kubernetes, ``kill``), SIGINT (Ctrl-C)
    and SIGHUP (a terminal that is closed).

    A terminal, SLURM and torchrun send one request several ways at once, so what follows within two seconds is the same
    request. Forked processes, such as a data loader's workers, obey their parent alone.

    Attributes:
        received: the signal that came, None if none.
    """

    _entered = 0

    def __init__(self, *, first: Callable[[signal.Signals], None], again: Callable[[signal.Signals], None]):
        """
        Args:
            first: called at the first signal.
            again: called at a second request.
        """
        self.received = None
        self._first = first
        self._again = again
        self._previous = {}

    def __enter__(self) -> "StopSignals":
        """Catches the signals; in another thread than the main one, Python admits no such thing."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        StopSignals._entered += 1
        return self

    def __exit__(self, *exception) -> None:
        """Gives the signals back."""
        StopSignals._entered -= 1
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _handle(self, number, frame):
        if self.received is None:
            self.received, self._time = signal.Signals(number), time.monotonic()
            self._first(self.received)
        elif time.monotonic() - self._time > 2:
            self._again(self.received)


def _set_mask(how):
    if StopSignals._entered:
        signal.pthread_sigmask(how, _SIGNALS)


def _obey_the_parent_alone():
    """Is what a forked process begins with, its signals blocked; a data loader ends its workers by SIGTERM."""
    if StopSignals._entered:
        threading.Thread(target=_end_with_the_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_the_parent(parent):
    while signal.sigwaitinfo(_SIGNALS).si_pid != parent:
        pass
    os._exit(0)


if hasattr(signal, "sigwaitinfo"):  # as Linux has
    os.register_at_fork(
        before=functools.partial(_set_mask, signal.SIG_BLOCK),
        after_in_parent=functools.partial(_set_mask, signal.SIG_UNBLOCK),
        after_in_child=_obey_the_parent_alone,
    )
