import contextlib
import os
import signal

import pytest
from cankd.utils import UserError, lock_directory

kept = contextlib.ExitStack()


def in_another_process(function):
    """Runs a function in a forked process that stays, and returns its number and what the function returned."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(function()).encode())
        signal.pause()
    return pid, os.read(read, 1000).decode()


def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def try_to_lock(path):
    """Takes the lock for as long as the process lives."""
    try:
        kept.enter_context(lock_directory(str(path), called="output="))
        return "taken"
    except UserError as error:
        return str(error)


def test_a_directory_has_one_run_until_its_process_ends_in_whatever_way(tmp_path):
    pid, answer = in_another_process(lambda: try_to_lock(tmp_path))
    try:
        assert answer == "taken"
        with pytest.raises(UserError, match=rf"output={tmp_path} is in use by another run, process {pid} on .*: wait"):
            lock_directory(str(tmp_path), called="output=").__enter__()
    finally:
        end(pid)
    assert (tmp_path / ".lock").exists()
    with lock_directory(str(tmp_path)), lock_directory(f"{tmp_path}/../{tmp_path.name}"):  # one process may do it twice
        other, answer = in_another_process(lambda: try_to_lock(tmp_path))
        end(other)
        assert f"process {os.getpid()} on" in answer
    other, answer = in_another_process(lambda: try_to_lock(tmp_path))
    end(other)
    assert answer == "taken"


def test_a_data_loaders_worker_does_not_keep_the_lock(tmp_path):
    with lock_directory(str(tmp_path)):
        worker, _ = in_another_process(lambda: None)
    try:
        with lock_directory(str(tmp_path)):
            pass
    finally:
        end(worker)


def test_no_link_is_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    os.symlink(victim, folder / ".lock")
    with pytest.raises(UserError, match="cannot be locked by its file .lock"):
        lock_directory(str(folder)).__enter__()
    assert victim.read_text() == "mine"
