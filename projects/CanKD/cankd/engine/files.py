import contextlib
import json
import os
from collections.abc import Iterator
from typing import IO, Any

__all__ = ["replace_file", "write_json"]


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
    """Writes a JSON file, whole or not at all. NaN, which JSON does not know, becomes null."""
    text = json.dumps(contents, indent=2).replace(": NaN", ": null")
    with replace_file(path, "w") as f:
        f.write(text)
