import contextlib
import pathlib
import re
import resource

__all__ = ["peak_memory"]


def peak_memory() -> float:
    """Returns this process's peak resident memory in MiB.

    On Linux it is the process's own. ``getrusage``, which is asked elsewhere, begins with what its parent had.
    """
    with contextlib.suppress(OSError, TypeError):
        status = pathlib.Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
