"""SIGTERM and SIGINT: what is asked to stop stops in order, and goes on as if nothing had been."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import cankd.engine.training
import pytest
import torch
from cankd.checkpoint import DistillationCheckpointer
from cankd.engine import train
from cankd.engine.graceful_stop import GracefulStop
from cankd.engine.stop_signals import StopSignals
from cankd.utils import Interrupted, report_mistakes
from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage

CONFIG = "DigitScenes/retinanet_R10.py"
STOP_SIGNALS = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


class SendSignal(HookBase):
    def __init__(self, number, iteration):
        self.number, self.iteration = number, iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            os.kill(os.getpid(), self.number)


def trained_iterations(folder):
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [line["iteration"] for line in lines if "total_loss" in line]


@pytest.mark.parametrize(
    "number", [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
)
def test_the_step_is_finished_and_saved(quick_config, tmp_path, number):
    config = quick_config(CONFIG, max_iter=4)
    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    with pytest.raises(Interrupted) as stop:
        train(config, extra_hooks=(SendSignal(number, 1),))
    assert (stop.value.number, stop.value.together) == (number, True)
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000001.pth"
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == before
    assert "bbox" in train(config, resume=True)
    assert trained_iterations(tmp_path / "run") == [0, 1, 2, 3]
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize("period", [100, 2])  # of the checkpoints, with none or one before the evaluation
def test_an_evaluation_ends_at_once(quick_config, tmp_path, monkeypatch, period):
    def evaluate(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)  # Python runs signal handlers between its instructions
        pytest.fail("went on")

    saved, save = [], DistillationCheckpointer.save
    monkeypatch.setattr(
        DistillationCheckpointer, "save", lambda self, name, **k: saved.append(name) or save(self, name, **k)
    )
    config = quick_config(CONFIG, max_iter=4, eval_period=2)
    config.train.checkpointer.period = period
    monkeypatch.setattr(cankd.engine.training, "test", evaluate)
    with pytest.raises(Interrupted):
        train(config)
    assert saved == ["model_0000001"]
    assert (tmp_path / "run" / "last_checkpoint").read_text() == "model_0000001.pth"


@pytest.mark.parametrize("patience", [None, 1])
def test_an_evaluation_that_was_interrupted_is_made_up_for_once(quick_config, tmp_path, monkeypatch, patience):
    """As an uninterrupted run has it, also where it ends the training."""
    results, evaluated = {1: 10.0, 3: 9.0, 5: 11.0, 8: 12.0}, []

    def evaluate(*args):
        evaluated.append(get_event_storage().iter)
        if interrupts and len(evaluated) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)  # Python runs signal handlers between its instructions
        return {"bbox": {"AP": results[evaluated[-1]]}}

    def outcome(folder):
        lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
        curve = {line["iteration"]: line["bbox/AP"] for line in lines if "bbox/AP" in line}
        last = torch.load(folder / "model_final.pth", weights_only=True)
        return curve, json.loads((folder / "evaluations.json").read_text()), last["iteration"]

    monkeypatch.setattr(cankd.engine.training, "test", evaluate)
    config = quick_config(CONFIG, max_iter=8, eval_period=2, output_dir=str(tmp_path / "whole"))
    config.train.early_stopping.patience = patience
    interrupts = False
    train(config)
    config.train.output_dir, interrupts = str(tmp_path / "interrupted"), True
    evaluated.clear()
    with pytest.raises(Interrupted):
        train(config)
    evaluated.append("resumed")
    train(config, resume=True)
    assert outcome(tmp_path / "interrupted") == outcome(tmp_path / "whole")
    assert evaluated == [1, 3, "resumed", *([3] if patience else [3, 5, 8])]


def test_after_the_last_step_the_run_is_whole_and_nothing_is_evaluated(quick_config, tmp_path, monkeypatch):
    monkeypatch.setattr(cankd.engine.training, "test", lambda *args: pytest.fail("evaluated"))
    with pytest.raises(Interrupted):
        train(quick_config(CONFIG, max_iter=2), extra_hooks=(SendSignal(signal.SIGTERM, 1),))
    assert [path.name for path in (tmp_path / "run").glob("*.pth")] == ["model_final.pth"]


def test_what_several_senders_ask_at_once_counts_once(monkeypatch):
    now, calls = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with StopSignals(first=lambda n: calls.append(("first", n)), again=lambda n: calls.append(("again", n))) as signals:
        for number, wait in ((signal.SIGINT, 0.1), (signal.SIGTERM, 1.5), (signal.SIGINT, 1), (signal.SIGINT, 0)):
            os.kill(os.getpid(), number)
            now[0] += wait
    assert calls == [("first", signal.SIGINT), ("again", signal.SIGINT)]
    assert signals.received == signal.SIGINT


def in_a_fork(function):
    """Returns the status that a forked process ends with, 7 if the function returns."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            function()
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def signal_oneself():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)


def test_a_second_request_ends_the_process(monkeypatch):
    def ask_twice():
        with GracefulStop(None).listening():
            os.kill(os.getpid(), signal.SIGTERM)
            now = time.monotonic()
            time.monotonic = lambda: now + 3
            os.kill(os.getpid(), signal.SIGTERM)

    assert in_a_fork(ask_twice) == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="looks at who sent a signal, as Linux can")
def test_workers_obey_their_parent_alone():
    """SLURM signals all processes of a job step, and a loader whose worker is killed ends the training."""
    with StopSignals(first=lambda number: None, again=lambda number: None):
        assert in_a_fork(signal_oneself) == 7
        worker = os.fork()
        if worker == 0:
            time.sleep(60)
            os._exit(7)
        os.kill(worker, signal.SIGTERM)
        assert os.waitpid(worker, 0)[1] == 0
    assert in_a_fork(signal_oneself) == -signal.SIGTERM


@pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="this process is under nohup itself")
def test_nohup_is_obeyed():
    """A signal that the process was started to ignore, as nohup does, is left ignored."""
    code = "import signal, cankd.engine.stop_signals as s; print(signal.SIGHUP in s._SIGNALS)"
    for prefix, caught in (([], "True"), (["nohup"], "False")):
        output = subprocess.run([*prefix, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        assert output.stdout.strip() == caught


@pytest.mark.parametrize("error, status", [(Interrupted(signal.SIGTERM), 143), (KeyboardInterrupt(), 130)])
def test_a_command_says_one_line_and_ends_as_shells_expect(capsys, error, status):
    @report_mistakes("Training continues with --resume.")
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == status
    assert capsys.readouterr().err == "Interrupted. Training continues with --resume.\n"
