"""A user's mistakes end in one line that says what to do; bugs keep their stack trace."""

import contextlib
import errno
import functools
import logging
import os
import re
import signal
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable

import detectron2
import torch
import torch.distributed as dist
from detectron2.utils import comm
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue

__all__ = [
    "ComparisonError",
    "Interrupted",
    "NonFiniteError",
    "TooSmallError",
    "UnknownClassError",
    "UserError",
    "is_disk_full",
    "is_lost_connection",
    "is_own_file",
    "report_mistakes",
    "where",
]


class UserError(ValueError):
    """What a user can mend: the message says what was got, what was expected, and what to do."""

    def __init__(self, message: str):
        """
        Args:
            message: see above. A data loader raises what its worker raised anew, with a stack trace in the message,
                which is taken away.
        """
        is_from_worker = message.startswith("Caught ") and "DataLoader worker process" in message
        super().__init__(message.rpartition("UserError: ")[2].strip() if is_from_worker else message)


class ComparisonError(UserError):
    """A distillation head that cannot work on the features of a step."""


class TooSmallError(UserError):
    """A feature level with too few positions for a method."""


class UnknownClassError(UserError):
    """A prediction of a class that the data set does not have."""


class NonFiniteError(UserError, FloatingPointError):
    """A loss or a weight that became infinite or NaN."""


class Interrupted(KeyboardInterrupt):
    """Work that was ended in order because a signal asked for it."""

    def __init__(self, number: int, *, together: bool = False):
        """
        Args:
            number: of the signal.
            together: whether all processes have ended their work at the same place.
        """
        super().__init__(number)
        self.number = number
        self.together = together


def is_disk_full(error: BaseException) -> bool:
    """Tells whether there was no space left to write to, or none that this user may have."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_lost_connection(error: BaseException) -> bool:
    """Tells whether an error only says that another process of a distributed run has ended."""
    if not (isinstance(error, RuntimeError) and dist.is_available() and dist.is_initialized()):
        return False
    return bool(re.search(r"Connection (was likely )?(closed|reset)|remote process exited|Broken pipe", str(error)))


def where(error: BaseException) -> str:
    """Returns the file and line that an error came from: the innermost one that is no package's, Detectron2's or ours.

    Args:
        error: as it was caught. A :class:`SyntaxError` names its own place.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_own_file(frame.filename)]
    if not (own or frames):
        return "an unknown place"
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}"


def is_own_file(path: str) -> bool:
    """Tells whether code is the user's own: from no package, neither Detectron2's nor ours, and from a file."""
    installed = tuple(sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return not path.startswith((*installed, *_PACKAGES, "<"))


# Both may lie elsewhere than installed packages do.
_FOLDERS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.path.dirname(detectron2.__file__)
_PACKAGES = tuple(folder + os.sep for folder in _FOLDERS)


_UNRESOLVED = InterpolationResolutionError, MissingMandatoryValue  # ${key} and ??? of a config


def report_mistakes(when_interrupted: str = "") -> Callable:
    """Decorates a command: a :class:`UserError` prints one line and exits with 1.

    So do a full disk, a full memory of the GPU, and a config that refers to an option that it lacks.

    A signal ends it with 128 and its number, as shells have it.

    Args:
        when_interrupted: what to tell a user who presses Ctrl-C, for example how to continue.
    """

    def decorate(main):
        @functools.wraps(main)
        def wrapper(*args, **kwargs):
            # Detectron2's training loop prints the stack trace of whatever ends it.
            logging.getLogger("detectron2.engine.train_loop").addFilter(_hides_mistakes)
            # Python prints one for each line that a full disk does not take into the log.
            logging.raiseExceptions = False
            try:
                return main(*args, **kwargs)
            except KeyboardInterrupt as error:
                if _rank() == 0:
                    with contextlib.suppress(OSError):  # the terminal may be closed
                        print(f"Interrupted. {when_interrupted}".strip(), file=sys.stderr, flush=True)
                raise SystemExit(128 + getattr(error, "number", signal.SIGINT)) from error
            except (UserError, OSError, torch.OutOfMemoryError, *_UNRESOLVED) as error:
                if not _is_mistake(error):
                    raise
                rank = _rank()
                if rank > 0:
                    time.sleep(10)  # if the first process has the same to say, this one is ended meanwhile
                sys.exit(f"{f'[rank {rank}] ' if rank > 0 else ''}Error: {_describe(error)}")

        return wrapper

    return decorate


def _rank():
    """Returns the process's rank, also before the processes have found each other."""
    return comm.get_rank() or int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def _is_mistake(error):
    return isinstance(error, (UserError, torch.OutOfMemoryError, *_UNRESOLVED)) or is_disk_full(error)


def _describe(error):
    if isinstance(error, _UNRESOLVED):
        return f"the config cannot be used ({', '.join(map(str.strip, str(error).splitlines()))})"
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "the memory of the GPU is full. In training, train.accumulate=2 or more computes each batch in parts; "
            f"train.amp.enabled=True and more GPUs (--num-gpus) need less, too ({str(error).splitlines()[0]})"
        )
    return f"the disk is full: {error}" if is_disk_full(error) else str(error)


def _hides_mistakes(record):
    return not (record.exc_info and (_is_mistake(record.exc_info[1]) or is_lost_connection(record.exc_info[1])))
