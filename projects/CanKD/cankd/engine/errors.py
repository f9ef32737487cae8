"""Users' mistakes end in one line; bugs keep their stack trace."""

import functools
import logging
import sys
import traceback
from collections.abc import Callable

from detectron2.utils import comm

__all__ = ["report_mistakes"]


def report_mistakes(main: Callable) -> Callable:
    """Decorates a command: an error that cankd itself raises about its input prints one line and exits with 1."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        # Detectron2's training loop prints the stack trace of whatever ends it.
        logging.getLogger("detectron2.engine.train_loop").addFilter(
            lambda record: not (record.exc_info and _is_mistake(record.exc_info[1]))
        )
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt:
            sys.exit("Interrupted; the same command with --resume continues from the last checkpoint.")
        except Exception as error:
            if not _is_mistake(error):
                raise
            # A wrong config is wrong on every rank: one a machine says so. A NaN may be one rank's own.
            is_silent = isinstance(error, ValueError) and comm.get_local_rank() > 0
            sys.exit(1 if is_silent else f"{type(error).__name__}: {error}")

    return wrapper


def _is_mistake(error):
    """Tells whether cankd's own code raised the error on purpose, rather than a library that it called."""
    if not isinstance(error, (ValueError, FloatingPointError)):
        return False
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return frame.f_globals.get("__name__", "").startswith("cankd.")
