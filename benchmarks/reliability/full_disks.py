"""Disks that become full while something is written to them."""

import contextlib
import functools
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

from cankd.data import DigitScenes
from cankd.tools import (
    compare_robustness,
    confusion_matrix,
    export_model,
    export_weights,
    lazyconfig_train_net,
    make_report,
    plot_curves,
    visualize_attention,
    visualize_data,
    visualize_features,
    visualize_predictions,
)

from .attempts import attempt
from .outcomes import Outcome, judge

__all__ = ["SHARES", "WRITERS", "mount_small_disk", "try_full_disk", "write_grid"]

SHARES = (0, 0.01, 0.05, 0.3, 0.8)
"""How much of the room that a writer needs is free."""

_ROOM = 64 * 2**20


def _run(tool, *arguments):
    """Runs a script; PROJECT and DISK stand for the two folders."""

    def write(project, disk):
        words = [word.replace("PROJECT", str(project)).replace("DISK", str(disk)) for word in arguments]
        tool.main.__wrapped__(tool.parse_arguments(words))

    return write


def _draw(project, disk):
    folder = disk / f"scenes_{len(list(disk.glob('scenes_*[0-9]')))}"
    DigitScenes(split="val", num_images=40).build(str(folder))


_CONFIG = ("--config-file", "PROJECT/config.py")
_STUDENT = "train.init_checkpoint=PROJECT/student.pth"
_TO_DISK = "train.output_dir=DISK/run"
_PICTURE = (*_CONFIG, "--images", "2", "--output", "DISK/pictures", _STUDENT)
_CORRUPTED = ("--eval-only", "--coco-c", "--corruptions", "fog", "--severities", "0,1")

WRITERS: Mapping[str, Callable[[pathlib.Path, pathlib.Path], object]] = {
    "training": _run(lazyconfig_train_net, *_CONFIG, _TO_DISK, "train.max_iter=3", "train.checkpointer.period=1"),
    "resuming": _run(lazyconfig_train_net, *_CONFIG, "--resume", _TO_DISK, "train.max_iter=2"),
    "evaluation": _run(lazyconfig_train_net, *_CONFIG, "--eval-only", _STUDENT, _TO_DISK),
    "COCO-C": _run(lazyconfig_train_net, *_CONFIG, *_CORRUPTED, _STUDENT, _TO_DISK),
    "table of COCO-C": _run(
        compare_robustness, "student=PROJECT/grid/run/robustness/student", "--output", "DISK/table"
    ),
    "data set": _draw,
    "weights (.pth)": _run(export_weights, "PROJECT/run/model_final.pth", "DISK/weights.pth"),
    "weights (.safetensors)": _run(export_weights, "PROJECT/run/model_final.pth", "DISK/weights.safetensors"),
    "exported model": _run(
        export_model,
        *_CONFIG,
        "--format",
        "torchscript",
        "--check",
        "0",
        "--size",
        "64x64",
        "--output",
        "DISK/model.ts",
        _STUDENT,
    ),
    "report": _run(make_report, "cankd=PROJECT/run", "--output", "DISK/report"),
    "curves": _run(plot_curves, "cankd=PROJECT/run", "--output", "DISK/curves.png"),
    "pictures of data": _run(visualize_data, *_CONFIG, "--images", "4", "--output", "DISK/samples.png"),
    "pictures of predictions": _run(visualize_predictions, *_PICTURE),
    "pictures of features": _run(visualize_features, *_PICTURE),
    "pictures of attention": _run(
        visualize_attention, "--point", "32,32", *_PICTURE[:-1], "train.init_checkpoint=PROJECT/run/model_final.pth"
    ),
    "confusion matrix": _run(confusion_matrix, *_CONFIG, "--output", "DISK/confusion", _STUDENT),
}
"""Functions that write to a disk, given a project's folder and the disk's, by what they write."""


@contextlib.contextmanager
def mount_small_disk(folder: pathlib.Path) -> Iterator[str]:
    """Mounts a small file system in memory.

    Args:
        folder: is made.

    Yields:
        Why it cannot be mounted, "" if it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform != "linux" or os.geteuid() != 0:
        yield "only root mounts a small disk"
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        yield f"no small disk can be mounted: {mounted.stderr.strip()}"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def write_grid(project: pathlib.Path) -> None:
    """Evaluates a project's student on corrupted images, for the table that is written of them.

    Args:
        project: see :func:`build_project`.

    Raises:
        RuntimeError: if that fails.
    """
    result = attempt(functools.partial(_write, "COCO-C", project, project / "grid"))
    if result.error or result.is_hung:
        raise RuntimeError(f"the table of COCO-C has nothing to show: {result.error}")


def try_full_disk(writer: str, share: float, project: pathlib.Path, disk: pathlib.Path) -> tuple[Outcome, str]:
    """Writes once with room enough, then over it with too little.

    Args:
        writer: one of ``WRITERS``.
        share: of the room that the writer needs, what it gets.
        project: see :func:`build_project`.
        disk: folder of a small file system; all in it is removed.

    Returns:
        What came of it, and the error.

    Raises:
        RuntimeError: if the writer fails with room enough.
    """
    _empty(disk)
    write = functools.partial(_write, writer, project, disk)
    free = _free(disk)
    result = attempt(write)
    if result.error or result.is_hung:
        raise RuntimeError(f"{writer} fails with room enough: {result.error}")
    whole = _sizes(disk)
    _leave_free(disk, int((free - _free(disk)) * share))
    result = attempt(write)
    (disk / "ballast").unlink()
    sizes = _sizes(disk)
    # Numbers and dates in a file may take a few letters less.
    lost = [str(path) for path, size in whole.items() if sizes.get(path, -1) < 0.9 * size]
    outcome = judge(result, is_harmless=not lost, is_lost=bool(lost), is_executed=False)
    return outcome, " ".join([*lost, result.error])


def _write(writer, project, disk):
    WRITERS[writer](project, disk)


def _empty(disk):
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _free(disk):
    room = os.statvfs(disk)
    return room.f_bavail * room.f_bsize


def _leave_free(disk, size):
    """Fills a disk but for so many bytes."""
    with open(disk / "ballast", "wb") as f:
        with contextlib.suppress(OSError):
            os.posix_fallocate(f.fileno(), 0, _free(disk) - size)


def _sizes(disk):
    return {path: path.stat().st_size for path in disk.rglob("*") if path.is_file() and path.name != "ballast"}
