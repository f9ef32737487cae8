import functools
import multiprocessing
import os
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from cankd.utils import UserError

from .preflight import check_processes
from .process_group import connect_store, open_store, run_in_group
from .started_process import started_process
from .supervisor import Supervisor

__all__ = ["launch"]


def launch(
    main: Callable,
    num_gpus: int = 1,
    *,
    args: tuple = (),
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
) -> None:
    """Runs a function in one process or several, and ends all of them in order.

    Several processes are started here, as Detectron2's ``launch`` does, or have been started by torchrun or SLURM's
    srun, which is found out from the environment. Signals that ask to stop are passed on to all. If one process fails,
    the others are ended within seconds, on all machines.

    Args:
        main: what each process runs.
        num_gpus: processes on this machine; 0 for one without a GPU.
        args: of ``main``.
        num_machines: on each of which this function is called.
        machine_rank: number of this machine.
        dist_url: ``tcp://HOST:PORT`` of the first machine, where the processes find each other; "auto" is a free port
            of a single machine.

    Raises:
        UserError: if there are GPUs, but fewer than processes, if another machine failed, or if the arguments are
            unusable, or contradict torchrun or srun.
        SystemExit: with the status of the first process that failed, or the signal that ended it.
    """
    started = started_process(num_machines)
    if started is not None:
        if (num_gpus, num_machines, machine_rank, dist_url) != (1, 1, 0, "auto"):
            raise UserError(
                f"{started.launcher} has started {started.world_size} processes: leave out --num-gpus, --num-machines, "
                f"--machine-rank and --dist-url, and tell {started.launcher} how many to start"
            )
        _run_started(main, args, started)
        return
    if not 0 <= machine_rank < num_machines:
        raise UserError(
            f"--machine-rank is {machine_rank}; of {num_machines} machine(s) the first is 0, the last "
            f"{num_machines - 1}"
        )
    check_processes(num_gpus)
    num_gpus = num_gpus or 1  # 0 is Detectron2's way to say that there is no GPU
    if num_gpus * num_machines == 1:
        main(*args)
        return
    host, port = _meeting_point(dist_url, num_machines)
    store = open_store(host, port) if machine_rank == 0 else connect_store(host, port)
    machine = _Machine(
        rank=machine_rank,
        processes=num_gpus,
        world_size=num_gpus * num_machines,
        host=host,
        port=store.port,
        start_method=multiprocessing.get_start_method(),
    )
    worker = functools.partial(_run_spawned, main, args, machine)
    Supervisor(store, num_machines=num_machines, machine_rank=machine_rank).run(worker, num_gpus)


class _Machine(NamedTuple):
    """What the processes that are started on this machine have in common."""

    rank: int
    processes: int
    """Their number."""
    world_size: int
    host: str
    """Name of the first machine, where all processes find each other."""
    port: int
    start_method: str
    """Of multiprocessing."""


def _meeting_point(dist_url, num_machines):
    if dist_url == "auto" and num_machines == 1:
        return "127.0.0.1", 0
    try:
        url = urlsplit(dist_url)
        if url.scheme == "tcp" and url.hostname and url.port:
            return url.hostname, url.port
    except ValueError:  # the port is no number
        pass
    raise UserError(
        f"--dist-url is {dist_url}, and {num_machines} machine(s) need tcp://HOST:PORT, with the name of the first "
        "machine and a port that is free there"
    )


def _run_spawned(main, args, machine, local_rank):
    """Is what a process runs that the supervisor has started."""
    # Otherwise a spawned process spawns its loaders' workers, too, each of which imports everything anew.
    multiprocessing.set_start_method(machine.start_method, force=True)
    rank = machine.rank * machine.processes + local_rank
    place = {"rank": rank, "world_size": machine.world_size, "local_rank": local_rank}
    run_in_group(main, args, store=connect_store(machine.host, machine.port), **place)


def _run_started(main, args, started):
    """Is what a process runs that torchrun or srun has started."""
    if started.world_size == 1:
        main(*args)
        return
    store = None
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # torchrun's own
        connect = open_store if started.rank == 0 else connect_store
        store = connect(started.address, started.port)
    place = {"rank": started.rank, "world_size": started.world_size, "local_rank": started.local_rank}
    run_in_group(main, args, store=store, **place)
