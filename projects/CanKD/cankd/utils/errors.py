"""Users' mistakes end in one line; bugs keep their stack trace."""

import functools
import logging
import sys
import time
import traceback
from collections.abc import Callable

from detectron2.utils import comm

__all__ = ["is_mistake", "report_mistakes"]


def report_mistakes(when_interrupted: str = "") -> Callable:
    """Decorates a command: an error that cankd itself raises about its input prints one line and exits with 1.

    Args:
        when_interrupted: what to tell a user who presses Ctrl-C, for example how to continue.
    """

    def decorate(main):
        @functools.wraps(main)
        def wrapper(*args, **kwargs):
            # Detectron2's training loop prints the stack trace of whatever ends it.
            logging.getLogger("detectron2.engine.train_loop").addFilter(_hides_mistakes)
            try:
                return main(*args, **kwargs)
            except KeyboardInterrupt:
                sys.exit(f"Interrupted. {when_interrupted}".strip())
            except Exception as error:
                if not is_mistake(error):
                    raise
                rank = comm.get_rank()
                if rank > 0:
                    time.sleep(3)  # if the first process has the same to say, this one is ended meanwhile
                sys.exit(f"{f'[rank {rank}] ' if rank > 0 else ''}{type(error).__name__}: {error}")

        return wrapper

    return decorate


def _hides_mistakes(record):
    return not (record.exc_info and is_mistake(record.exc_info[1]))


def is_mistake(error: BaseException) -> bool:
    """Tells whether cankd's own code raised the error on purpose, rather than a library that it called."""
    if not isinstance(error, (ValueError, FloatingPointError)):
        return False
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return frame.f_globals.get("__name__", "").startswith("cankd.")
