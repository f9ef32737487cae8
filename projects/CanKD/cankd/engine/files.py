import contextlib
import os
from collections.abc import Iterator
from typing import IO

__all__ = ["replace_file"]


@contextlib.contextmanager
def replace_file(path: str, mode: str = "wb") -> Iterator[IO]:
    """Gives a file to write to that takes its name only once it is whole; if writing fails, what was there stays.

    Args:
        path: the file's final name.
        mode: "wb" or "w".
    """
    unfinished = f"{path}.unfinished"
    try:
        with open(unfinished, mode) as f:
            yield f
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)
