import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from cankd.utils import UserError

__all__ = ["StartedProcess", "started_process"]

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class StartedProcess(NamedTuple):
    """One of several processes that a launcher outside this project has started."""

    launcher: str
    """ "torchrun" or "srun"."""
    rank: int
    world_size: int
    local_rank: int
    """Number of the process on its machine."""
    address: str
    """Host of the first process, where all find each other."""
    port: int


def started_process(num_machines: int = 1, environ: Mapping[str, str] = os.environ) -> StartedProcess | None:
    """Reads what torchrun or SLURM's srun says of this process in its environment variables.

    Args:
        num_machines: of the command line. More than 1 overrules srun where that starts one task a machine.
        environ: the variables.

    Returns:
        None if neither has started it, or if srun has started a single task.

    Raises:
        UserError: if the variables tell of several processes, but not which one this is.
    """
    if all(name in environ for name in _TORCHRUN):
        rank, world_size, local_rank = (int(environ[name]) for name in _TORCHRUN[:3])
        return StartedProcess(
            "torchrun", rank, world_size, local_rank, environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
        )
    if num_machines == 1 and "RANK" in environ and int(environ.get("WORLD_SIZE") or 1) > 1:
        missing = ", ".join(name for name in _TORCHRUN if name not in environ)
        raise UserError(
            f"the environment has RANK and WORLD_SIZE={environ['WORLD_SIZE']}, but not {missing}: start the script by "
            "torchrun, or give --num-machines, --machine-rank and --dist-url"
        )
    return _slurm_task(num_machines, environ)


def _slurm_task(num_machines, environ):
    # A batch script that starts Python without srun sees the number of tasks, too.
    in_batch_script = environ.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in environ
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS") or 1)
    if "SLURM_PROCID" not in environ or in_batch_script or tasks in (1, num_machines):
        return None
    rank, local_rank = int(environ["SLURM_PROCID"]), int(environ.get("SLURM_LOCALID") or 0)
    return StartedProcess("srun", rank, tasks, local_rank, _slurm_address(environ), _slurm_port(environ))


def _slurm_address(environ):
    names = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
    nodes = next((environ[name] for name in names if environ.get(name)), "")
    if environ.get("MASTER_ADDR"):
        return environ["MASTER_ADDR"]
    if not nodes:
        return environ.get("SLURM_LAUNCH_NODE_IPADDR") or "127.0.0.1"
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes).group()  # of "gpu[03-05,7],cpu1": gpu[03-05,7]
    name = re.sub(r"\[(\d+)[^\]]*\]", r"\1", first)
    return "127.0.0.1" if name == nodes else name  # all on one machine


def _slurm_port(environ):
    """Returns a port that all tasks know without talking, and that other job steps do not use."""
    if environ.get("MASTER_PORT"):
        return int(environ["MASTER_PORT"])
    job, step = (int(environ.get(name) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return 15000 + (job * 31 + step) % 16000  # below the ports that systems give to outgoing connections
