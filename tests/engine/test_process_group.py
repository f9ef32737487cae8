import threading
import time

from cankd.engine import process_group


def test_long_waits_are_said(monkeypatch, capfd):
    text = ""
    monkeypatch.setattr(process_group, "SECONDS_OF_SILENCE", 0)
    with process_group._saying_what_is_waited_for("all 4 processes to start"):
        while not text:
            time.sleep(0.01)
            text = capfd.readouterr().err
    assert text == "Waiting for all 4 processes to start, for at most 30 minutes.\n"


def test_short_waits_are_not():
    with process_group._saying_what_is_waited_for("nothing"):
        (timer,) = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
        assert timer.daemon and not timer.finished.is_set()
    assert timer.finished.is_set()
