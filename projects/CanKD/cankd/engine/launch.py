import functools
import gc
import sys
from collections.abc import Callable

import detectron2.engine
import torch.distributed as dist
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from .preflight import check_processes

__all__ = ["launch"]


def launch(main: Callable, num_gpus: int, *, args: tuple = (), **machines) -> None:
    """Runs a function in one process or several, as Detectron2's ``launch``, and ends each of them in order.

    Args:
        main: what each process runs.
        num_gpus: processes on this machine.
        args: of ``main``.
        machines: ``num_machines``, ``machine_rank`` and ``dist_url``, as Detectron2's ``launch`` has them.

    Raises:
        UserError: if there are GPUs, but fewer than processes.
        SystemExit: with the status of the first process that failed, or the signal that ended it.
    """
    check_processes(num_gpus)
    try:
        detectron2.engine.launch(functools.partial(_run, main), num_gpus, args=args, **machines)
    except ProcessExitedException as error:
        # One that failed has said itself what is wrong; one that was killed has not.
        sys.exit(error.exit_code if error.exit_code > 0 else str(error))


def _run(main, *args):
    main(*args)
    if dist.is_initialized():
        dist.barrier()  # the first process holds the store that the others still talk to
        _destroy_process_groups()


def _destroy_process_groups():
    """Ends the threads of all process groups, which may abort a process that exits before them.

    They end with the last reference to their group, and two of these are kept by ``detectron2.utils.comm``.
    """
    dist.destroy_process_group()
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    gc.collect()  # models wrapped by DistributedDataParallel refer to a group, and a trainer to itself
