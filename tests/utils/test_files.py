"""Files that are whole, on the disk and under no one else's name."""

import errno
import json
import os
import subprocess
import sys

import pytest
import torch
from cankd.data import DigitPatches
from cankd.utils import (
    UserError,
    create_folder,
    read_record,
    remove_unfinished,
    replace_file,
    report_mistakes,
    write_json,
)
from cankd.visualization.figures import save_figure
from matplotlib import pyplot


@pytest.fixture
def small_disk(tmp_path):
    """Returns the path of a file system of 256 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root mounts a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def draw_figure(path):
    figure = pyplot.figure(figsize=(8, 8))
    figure.gca().imshow(torch.rand(900, 900))
    save_figure(figure, path)


def save_tensor(path):
    with replace_file(path) as f:
        torch.save({"model": torch.rand(100_000)}, f)


WRITERS = {
    "checkpoint.pth": save_tensor,
    "numbers.json": lambda path: write_json(path, list(range(100_000))),
    "picture.png": draw_figure,
    "data": DigitPatches(split="val", num_images=200).build,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there_and_is_named(small_disk, name):
    path = small_disk / name
    if name != "data":
        path.write_text("old")
    with pytest.raises(UserError, match=f"{path} cannot be written: the disk at {small_disk} is full"):
        WRITERS[name](str(path))
    assert [entry.name for entry in small_disk.iterdir() if not entry.name.endswith(".lock")] == [name] * (
        name != "data"
    )
    assert name == "data" or path.read_text() == "old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_an_error_while_data_go_to_the_disk_counts(tmp_path, monkeypatch, number):
    def fail(descriptor):
        raise OSError(number, "from the disk")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="a.json cannot be written: the disk at /.* is full"):
        write_json(str(tmp_path / "a.json"), 1)
    assert not list(tmp_path.iterdir())


def test_a_command_says_in_one_line_that_the_disk_is_full(tmp_path):
    """Also where Detectron2 or a library writes."""

    @report_mistakes()
    def main(number):
        raise OSError(number, os.strerror(number), "metrics.json")

    with pytest.raises(SystemExit, match="^Error: the disk is full: .* 'metrics.json'$"):
        main(errno.ENOSPC)
    with pytest.raises(PermissionError):
        main(errno.EACCES)


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_json(str(tmp_path / "absent" / "a.json"), 1)


def test_data_are_on_the_disk_before_they_take_their_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(os.readlink(f"/proc/self/fd/{fd}")) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda *names: events.append("replace") or replace(*names))
    write_json(str(tmp_path / "a.json"), 1)
    assert events[0].startswith(f"{tmp_path}/a.json.") and events[1:] == ["replace", str(tmp_path)]


def test_temporary_names_are_others_each_time_and_follow_no_link(tmp_path, monkeypatch):
    names = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: names.append(paths[0]) or replace(*paths))
    for _ in range(2):
        write_json(str(tmp_path / "a.json"), 1)
    assert len(set(names)) == 2
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    os.symlink(victim, tmp_path / f"a.json.{'0' * 16}.unfinished")
    with pytest.raises(FileExistsError):
        write_json(str(tmp_path / "a.json"), 2)
    assert victim.read_text() == "mine" and json.loads((tmp_path / "a.json").read_text()) == 1


def test_new_files_are_readable_as_the_umask_says(tmp_path):
    old = os.umask(0o022)
    try:
        write_json(str(tmp_path / "a.json"), 1)
        with create_folder(str(tmp_path / "folder")):
            pass
    finally:
        os.umask(old)
    assert [os.stat(tmp_path / name).st_mode & 0o777 for name in ("a.json", "folder")] == [0o644, 0o755]


def test_what_killed_processes_left_is_removed(tmp_path):
    left, others = [f"a.pth.{'1a' * 8}.unfinished", f"b.pth.{'2b' * 8}.unfinished"], ["a.pth", "a.pth.unfinished", "c"]
    for name in [*left, *others]:
        (tmp_path / name).touch()
    (tmp_path / f"d.pth.{'3c' * 8}.unfinished").mkdir()
    remove_unfinished(f"{tmp_path}/*.pth")
    assert sorted(os.listdir(tmp_path)) == sorted(others)


def test_a_folder_is_whole_or_absent(tmp_path):
    with pytest.raises(KeyboardInterrupt), create_folder(str(tmp_path / "data")) as folder:
        (tmp_path / folder / "a").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with create_folder(str(tmp_path / "data")) as folder:
        (tmp_path / folder / "a").touch()
    assert os.listdir(tmp_path / "data") == ["a"]


@pytest.mark.parametrize(
    "contents", ["", "{", "[]", "null", "5", "{}", '{"metrics": null}', '{"metrics": "text"}', "\xff"]
)
def test_a_damaged_record_is_named(tmp_path, contents):
    path = tmp_path / "result.json"
    assert read_record(str(path), {"metrics": dict}) is None
    path.write_bytes(contents.encode("latin1"))
    with pytest.raises(UserError, match=r"result.json is damaged \(.*\): remove it"):
        read_record(str(path), {"metrics": dict})
    write_json(str(path), {"metrics": {"AP": 1.0}})
    assert read_record(str(path), {"metrics": dict}) == {"metrics": {"AP": 1.0}}
