import contextlib
import glob
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import IO, Any

from detectron2.utils.file_io import PathManager

from .errors import UserError, is_disk_full

__all__ = [
    "create_folder",
    "make_output_dir",
    "place_of",
    "read_record",
    "remove_unfinished",
    "replace_file",
    "write_json",
]


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
    """Gives a file to write to that takes its name only once it is whole and on the disk.

    If writing fails, what was there stays.

    Args:
        path: the file's final name.
        mode: "wb" or "w".

    Raises:
        UserError: if the disk is full.
    """
    unfinished = _unfinished_name(path)
    with _naming_full_disk(path):
        try:
            with open(unfinished, mode.replace("w", "x")) as f:  # fails where anything has the name, a link too
                yield f
                f.flush()
                os.fsync(f.fileno())
            os.replace(unfinished, path)
            _flush_names(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(unfinished)


@contextlib.contextmanager
def create_folder(path: str) -> Iterator[str]:
    """Gives a folder to fill that takes its name only once it is whole and on the disk.

    Args:
        path: the folder's final name. It must not be there.

    Raises:
        UserError: if the disk is full; nothing is left then.
    """
    unfinished = _unfinished_name(path)
    with _naming_full_disk(path):
        try:
            os.mkdir(unfinished)
            yield unfinished
            os.sync()  # much faster than thousands of files one by one
            os.rename(unfinished, path)
            _flush_names(path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def remove_unfinished(path: str) -> None:
    """Removes what killed processes have left of a file or folder. Nobody may be writing it.

    Args:
        path: its final name, in which ``*`` stands for anything.
    """
    for name in glob.glob(f"{path}.{'[0-9a-f]' * _TOKEN}.unfinished"):
        shutil.rmtree(name) if os.path.isdir(name) else os.remove(name)


_TOKEN = 16  # hexadecimal digits


def _unfinished_name(path):
    return f"{path}.{secrets.token_hex(_TOKEN // 2)}.unfinished"


def _flush_names(path):
    """Brings a new name to the disk; a file system whose folders need no such thing may refuse."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _naming_full_disk(path):
    try:
        yield
    except Exception as error:
        causes = [error]  # torch.save raises another error while it handles the disk's
        while cause := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(cause)
        if not any(map(is_disk_full, causes)):
            raise
        raise UserError(
            f"{path} cannot be written: the disk at {_mount_point(path)} is full. Nothing was replaced. Free space on "
            "it, or write to another one"
        ) from error


def _mount_point(path):
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def write_json(path: str, contents: Any) -> None:
    """Writes a JSON file, whole or not at all. NaN and infinity, which JSON does not know, become null."""
    text = json.dumps(_without_nan(contents), indent=2, allow_nan=False)
    with replace_file(path, "w") as f:
        f.write(text)


def read_record(path: str, entries: Mapping[str, type | UnionType]) -> dict | None:
    """Reads back a dict that :func:`write_json` has written, None if the file is absent.

    Args:
        path: JSON file.
        entries: map from each name that the dict needs to the type of its value.

    Raises:
        UserError: if the file is damaged, or an entry is missing or of another type.
    """
    try:
        with open(path) as f:
            found = json.load(f)
        if wrong := [name for name, kind in entries.items() if not isinstance(found[name], kind)]:
            raise ValueError(f"{wrong[0]} is {found[wrong[0]]!r}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}): remove it, and what it says is made anew"
        ) from error
    return found


def _without_nan(contents):
    if isinstance(contents, Mapping):
        return {key: _without_nan(value) for key, value in contents.items()}
    if isinstance(contents, (list, tuple)):
        return [_without_nan(value) for value in contents]
    return None if isinstance(contents, float) and not math.isfinite(contents) else contents
