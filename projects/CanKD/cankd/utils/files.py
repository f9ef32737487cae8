import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from cankd.utils import UserError
from detectron2.utils.file_io import PathManager

__all__ = ["make_output_dir", "place_of", "replace_file", "write_json"]


def place_of(path: str) -> str:
    """Returns where a relative path leads, for behind the path in a message; nothing for others and for URLs."""
    return "" if not path or os.path.isabs(path) or "://" in path else f" (looked for as {os.path.abspath(path)})"


def make_output_dir(path: str, *, called: str = "the directory ") -> None:
    """Makes a directory for files that are computed only after this.

    Args:
        path: local or remote; "" is the current one.
        called: what stands before the path in the message.

    Raises:
        UserError: if it cannot be made or written to.
    """
    try:
        PathManager.mkdirs(path or ".")
        if os.path.exists(path or "."):  # local; fails if it is a file
            with tempfile.TemporaryFile(dir=path or "."):
                pass
    except OSError as error:
        raise UserError(f"{called}{path} cannot be written: {error.strerror or error}") from error


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


def write_json(path: str, contents: Any) -> None:
    """Writes a JSON file, whole or not at all. NaN and infinity, which JSON does not know, become null."""
    text = json.dumps(_without_nan(contents), indent=2, allow_nan=False)
    with replace_file(path, "w") as f:
        f.write(text)


def _without_nan(contents):
    if isinstance(contents, Mapping):
        return {key: _without_nan(value) for key, value in contents.items()}
    if isinstance(contents, (list, tuple)):
        return [_without_nan(value) for value in contents]
    return None if isinstance(contents, float) and not math.isfinite(contents) else contents
