import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator

from .errors import UserError

__all__ = ["lock_directory"]

logger = logging.getLogger(__name__)

_held = {}


@contextlib.contextmanager
def lock_directory(path: str, *, called: str = "the directory ") -> Iterator[None]:
    """Keeps other runs out of a directory; within one process it may be entered again.

    The lock is the operating system's, on the file ``.lock``: it ends with the process, however that ends, so a lock
    file that is left over locks nothing. On NFS it holds for all machines. A file system that has no locks is only
    warned of, and a remote directory is not locked.

    Args:
        path: the directory.
        called: what stands before the path in the message.

    Raises:
        UserError: if another run has it, or the lock file cannot be written.
    """
    key = os.path.realpath(path or ".")
    if key in _held or not os.path.isdir(key):
        yield
        return
    _held[key] = _lock(key, f"{called}{path}")
    try:
        yield
    finally:
        _held.pop(key).close()


def _lock(directory, shown):
    try:
        file = open(os.path.join(directory, ".lock"), "a+", opener=_open_no_link)
    except OSError as error:
        raise UserError(f"{shown} cannot be locked by its file .lock: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "of another machine or user"
        file.close()
        raise UserError(
            f"{shown} is in use by another run, {owner}: wait for it or end it, or write to another directory"
        ) from None
    except OSError as error:
        logger.warning("%s cannot be locked (%s): take care that no other run writes there.", shown, error.strerror)
        return file
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def _open_no_link(path, flags):
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _let_the_parent_keep_its_locks():
    """Closes a forked process's copies: with one left, the lock would outlive the run."""
    for file in _held.values():
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_let_the_parent_keep_its_locks)
