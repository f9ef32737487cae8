import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist
import torch.multiprocessing as mp
from cankd.utils import Interrupted, UserError
from torch.multiprocessing import ProcessExitedException

from .stop_signals import StopSignals

__all__ = ["Supervisor"]


class Supervisor:
    """Starts the processes of one machine, passes signals on to them, and ends all if one fails, here or elsewhere.

    The supervisors of several machines tell each other by the store, which the first one holds.
    """

    def __init__(self, store: dist.TCPStore, *, num_machines: int = 1, machine_rank: int = 0):
        """
        Args:
            store: of the run.
            num_machines: each has a supervisor.
            machine_rank: number of this machine.
        """
        self._store = store
        self._num_machines = num_machines
        self._machine_rank = machine_rank

    def run(self, worker: Callable[[int], None], num_processes: int) -> None:
        """Runs a function in several processes, with the number of each, and waits for them.

        Raises:
            UserError: if another machine failed.
            Interrupted: if a signal ended the processes before they could say so.
            SystemExit: with the status of the first process that failed, or of the signal that ended its work in order.
        """
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # which tells of processes it ends
        self._processes = mp.start_processes(worker, nprocs=num_processes, join=False)
        with StopSignals(first=self._send, again=lambda number: self._send(signal.SIGKILL)) as signals:
            try:
                self._wait(signals)
            except ProcessExitedException as error:
                if error.exit_code not in _IN_ORDER:
                    self._tell_machines_of_failure()
                    if signals.received:
                        raise Interrupted(signals.received) from None
                # One that failed has said itself what is wrong; one that was killed has not.
                sys.exit(error.exit_code if error.exit_code > 0 else f"Error: {error}")
            except Exception:
                self._tell_machines_of_failure()
                raise
            finally:
                self._take_leave()

    def _wait(self, signals):
        # Those that were asked to stop may take long to save; those that another's failure leaves behind may not.
        while not self._processes.join(timeout=0.5, grace_period=3600 if signals.received else 1):
            if self._num_machines > 1 and (failure := self._failure_elsewhere()):
                self._send(signal.SIGKILL)
                raise UserError(f"{failure}. The processes of this machine were ended, too")

    def _send(self, number):
        for process in self._processes.processes:
            if process.is_alive():
                os.kill(process.pid, number)

    def _tell_machines_of_failure(self):
        with contextlib.suppress(RuntimeError):
            self._store.set(_FAILED, str(self._machine_rank))

    def _failure_elsewhere(self):
        try:
            if not self._store.check([_FAILED]):
                return None
            machine = int(self._store.get(_FAILED))
        except RuntimeError:
            return "The connection to machine 0 was lost"
        return None if machine == self._machine_rank else f"Machine {machine} failed: its log says why"

    def _take_leave(self):
        """Keeps the store until the other machines need it no more."""
        with contextlib.suppress(RuntimeError):
            self._store.set(_left(self._machine_rank), "")
            if self._machine_rank == 0:
                self._store.wait([_left(machine) for machine in range(self._num_machines)], timedelta(seconds=10))


_FAILED = "failed machine"
_IN_ORDER = (128 + signal.SIGHUP, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def _left(machine):
    return f"machine {machine} has left"
