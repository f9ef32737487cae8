"""Checks of image files before training: their heads are read, and what was sound is remembered."""

import contextlib
import hashlib
import logging
import os
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from cankd.utils import UserError, write_json
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from .images import check_image

__all__ = ["check_images"]

logger = logging.getLogger(__name__)


def check_images(
    records: Sequence[Mapping], source: str, *, whole: bool = False, skip_broken: bool | None = False
) -> Sequence[Mapping]:
    """Makes sure that the image files of a data set can be used.

    Of several processes the first alone reads. A data set that was found sound is not read again as long as size and
    date of all its files stay as they are: ``$XDG_CACHE_HOME/cankd`` remembers it.

    Args:
        records: in Detectron2's format.
        source: what to call the data set: its annotation file, or its name.
        whole: whether all pixels are read, which finds files that are cut off, and not the heads alone.
        skip_broken: whether to go on without what is broken, and log how much that is; None if all are needed.

    Returns:
        The records, without those that are left out.

    Raises:
        UserError: in every process, if an image cannot be read, is no regular file, has more than 8 bits a channel,
            or is of another size than its record says.
    """
    problems = _find_problems(records, whole) if comm.is_main_process() else None
    problems = comm.all_gather(problems)[0]
    if not problems:
        return records
    first = problems[min(problems)]
    if not skip_broken:
        or_skip = "" if skip_broken is None else ", or go on without them by train.skip_broken=True"
        raise UserError(
            f"{source} has {len(problems)} images that cannot be used, of {len(records)}; the first: {first}. Mend "
            f"them{or_skip}"
        )
    logger.warning("%s is used without %d images; the first: %s", source, len(problems), first)
    return [record for i, record in enumerate(records) if i not in problems]


def _find_problems(records, whole):
    """Returns what is wrong, by the index of the record."""
    memory = _memory_file(records, whole)
    if memory and os.path.exists(memory):
        return {}
    problems = {}
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda record: _describe(record, whole), records)
        for i, problem in enumerate(tqdm(found, "Checking images", len(records), leave=False, disable=None)):
            if problem:
                problems[i] = problem
    if memory and not problems:
        with contextlib.suppress(OSError, UserError):  # without a place to remember it, they are read again
            os.makedirs(os.path.dirname(memory), exist_ok=True)
            write_json(memory, {"images": len(records)})
    return problems


def _memory_file(records, whole):
    """Returns the file whose presence says that these images were found sound; None if they have no date."""
    known = hashlib.sha256(repr(("checksums", "turns", whole)).encode())
    try:
        with ThreadPoolExecutor() as pool:
            for state in pool.map(_describe_state, records):
                known.update(repr(state).encode())
    except (OSError, KeyError):
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "cankd", "sound_images", f"{known.hexdigest()}.json")


def _describe_state(record):
    state = os.stat(record["file_name"])
    return os.fspath(record["file_name"]), state.st_size, state.st_mtime_ns, record.get("width"), record.get("height")


def _describe(record, whole):
    """Returns what is wrong with a record's image, None if it can be used."""
    path = record.get("file_name")
    if path is None:
        return None  # the mapper knows where its pixels are
    try:
        local = PathManager.get_local_path(path)
        if not stat.S_ISREG(os.stat(local).st_mode):  # opening a pipe would wait for ever
            return f"{path} is no regular file"
        size = record.get("width"), record.get("height")
        check_image(path, whole=whole, size=None if None in size else size)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
