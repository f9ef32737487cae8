"""Whether a long run needs more and more memory."""

import functools
import pathlib
import re

from cankd.engine import load_config
from cankd.engine import train as train_config
from detectron2.engine import HookBase

from .attempts import attempt

__all__ = ["measure_memory"]


class _Recorder(HookBase):
    def __init__(self, period):
        self.period = period
        self.values = {}

    def after_step(self):
        step = self.trainer.iter + 1
        if step % self.period == 0:
            status = pathlib.Path("/proc/self/status").read_text()
            self.values[step] = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 2**10


def measure_memory(project: pathlib.Path, steps: int, *, period: int = 100) -> dict[int, float]:
    """Trains and returns the resident memory in MiB, by step; a checkpoint is saved at every tenth of the run.

    Args:
        project: see :func:`build_project`.
        steps: length of the run.
        period: steps between two measurements.

    Raises:
        RuntimeError: if the run fails.
    """
    result = attempt(functools.partial(_train, project, steps, period), limit=7200)
    if result.value is None:
        raise RuntimeError(f"the run whose memory is measured fails: {result.error}")
    return result.value


def _train(project, steps, period):
    options = [f"train.max_iter={steps}", "dataloader.train.total_batch_size=2", "dataloader.train.num_workers=1"]
    options += [f"train.checkpointer.period={steps // 10}", "train.log_period=20", "dataloader.evaluator=null"]
    recorder = _Recorder(period)
    train_config(load_config(str(project / "config.py"), options), extra_hooks=(recorder,))
    return recorder.values
