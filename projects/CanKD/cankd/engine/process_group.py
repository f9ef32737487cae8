import contextlib
import gc
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from cankd.utils import Interrupted, UserError, is_lost_connection
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm

__all__ = ["connect_store", "open_store", "run_in_group"]

SECONDS_OF_SILENCE = 10


def open_store(host: str, port: int) -> dist.TCPStore:
    """Opens the store by which processes find each other; with a loopback address it is open to this machine alone.

    Args:
        host: name or address of this machine.
        port: 0 is any that is free.

    Raises:
        UserError: if the port is taken.
    """
    arguments = {"is_master": True, "wait_for_workers": False, "timeout": DEFAULT_TIMEOUT}
    try:
        if host not in ("localhost", "127.0.0.1"):
            return dist.TCPStore(host, port, **arguments)
        listener = socket.create_server(("127.0.0.1", port))  # a store of its own would listen on all interfaces
        port = listener.getsockname()[1]
        store = dist.TCPStore("127.0.0.1", port, master_listen_fd=listener.fileno(), **arguments)
        listener.detach()  # the store closes it
        return store
    except (OSError, RuntimeError) as error:
        raise UserError(f"the port {port} of {host} cannot be opened ({_first_line(error)}): choose another") from error


def connect_store(host: str, port: int) -> dist.TCPStore:
    """Connects to the store that the first machine or process opens, and waits for it.

    Raises:
        UserError: if it cannot be reached.
    """
    try:
        with _saying_what_is_waited_for(f"{host}:{port}, where the first process listens"):
            return dist.TCPStore(host, port, is_master=False, timeout=DEFAULT_TIMEOUT)
    except RuntimeError as error:
        raise UserError(f"{host}:{port}, the first machine, cannot be reached: {_first_line(error)}") from error


@contextlib.contextmanager
def _saying_what_is_waited_for(what):
    """Says so if it takes long: a task of a cluster that never comes is waited for in silence otherwise."""
    minutes = DEFAULT_TIMEOUT.total_seconds() / 60
    text = f"Waiting for {what}, for at most {minutes:.0f} minutes."
    timer = threading.Timer(SECONDS_OF_SILENCE, print, [text], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _first_line(error):
    return str(error).strip().splitlines()[0]


def run_in_group(
    main: Callable, args: tuple, *, rank: int, world_size: int, local_rank: int, store: dist.Store | None
) -> None:
    """Runs a function in one process of several, as a member of Detectron2's process groups.

    Args:
        main: what to run.
        args: of ``main``.
        rank: of the process.
        world_size: number of all processes.
        local_rank: of the process on its machine, and number of its GPU, unless it sees only one.
        store: where the processes find each other; torchrun's own if not given.

    Raises:
        UserError: if the process has no GPU although there are some, or the machines have not as many processes each.
        SystemExit: if the work was interrupted, or the connection to another process is lost.
    """
    _choose_device(local_rank)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    place = {} if store is None else {"store": store, "rank": rank, "world_size": world_size}
    with _telling_of_lost_connections(rank):
        with _saying_what_is_waited_for(f"all {world_size} processes to start"):
            dist.init_process_group(backend, timeout=DEFAULT_TIMEOUT, **place)
            _create_local_group(local_rank)
        try:
            main(*args)
        except (Interrupted, SystemExit) as end:
            cause = end if isinstance(end, Interrupted) else end.__cause__
            if not isinstance(cause, Interrupted):
                raise
            if cause.together:
                _leave_groups()
            raise SystemExit(128 + cause.number) from cause
        _leave_groups()


def _choose_device(local_rank):
    """Takes the GPU of this number; srun may show each process only its own."""
    if not torch.cuda.is_available():
        return
    visible = torch.cuda.device_count()
    if local_rank >= visible > 1:
        raise UserError(f"process {local_rank} of this machine has no GPU: it has {visible}. Start fewer processes")
    torch.cuda.set_device(local_rank if visible > 1 else 0)


def _create_local_group(local_rank):
    """Creates the groups of each machine's processes, which Detectron2 wants of equal size and in blocks."""
    local_ranks = comm.all_gather(local_rank)
    size = len(local_ranks) // local_ranks.count(0)
    if local_ranks != [rank % size for rank in range(len(local_ranks))]:
        raise UserError(
            f"the processes have the numbers {local_ranks} on their machines, but every machine needs the same number "
            "of processes, one machine after the other: for srun, --ntasks-per-node and --distribution=block"
        )
    comm.create_local_process_group(size)
    comm.synchronize()


@contextlib.contextmanager
def _telling_of_lost_connections(rank) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        time.sleep(10)  # who started this process knows what is wrong with the other one, and ends this one meanwhile
        sys.exit(f"[rank {rank}] Error: another process has ended, see what it says ({_first_line(error)})")


def _leave_groups():
    """Ends the threads of all process groups, which may abort a process that exits before them.

    They end with the last reference to their group, and two of these are kept by ``detectron2.utils.comm``.
    """
    dist.barrier()  # the first process may hold the store that the others still talk to
    dist.destroy_process_group()
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    gc.collect()  # models wrapped by DistributedDataParallel refer to a group, and a trainer to itself
