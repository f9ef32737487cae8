"""Runs that are killed at any moment and resumed until they are through."""

import dataclasses
import functools
import json
import pathlib
import random
import time

import torch

from .attempts import attempt
from .sandbox import copy_project, train

__all__ = ["KilledRun", "Killer"]

_OPTIONS = ("--resume", "train.max_iter={steps}", "dataloader.train.num_workers={workers}")


@dataclasses.dataclass
class KilledRun:
    """What became of a run.

    Attributes:
        kills: how often it was killed.
        problems: what was damaged or lost, and errors of resuming; empty if all is well.
        same_weights: whether it ended with the weights of a run that nobody killed.
    """

    kills: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)
    same_weights: bool = False


class Killer:
    """Kills runs of a project by SIGKILL."""

    def __init__(self, sound: pathlib.Path, folder: pathlib.Path, *, steps: int = 40):
        """
        Args:
            sound: project, see :func:`build_project`.
            folder: where it is copied to and trained.
            steps: length of a run.
        """
        self.sound = sound
        self.folder = folder
        self.steps = steps
        self._references = {}

    def kill_until_finished(self, number: int) -> KilledRun:
        """Trains a run, kills it and resumes it until it is through.

        Args:
            number: of the run, the seed of its moments. Odd ones load their data in a process beside the training.
        """
        weights, seconds = self._reference(number % 2)
        moments, run = random.Random(number), KilledRun()
        self._start_anew()
        while True:
            last = self._last_iteration()
            # More and more time, so that it comes through on a machine that has become slower.
            result = self._train(number % 2, limit=moments.uniform(0, seconds * (0.8 + run.kills / 10)))
            run.problems += self._damage(last)
            if not result.is_hung:
                break
            run.kills += 1
        if result.error:
            run.problems.append(result.error)
        final = self.folder / "run" / "model_final.pth"
        if final.exists() and not run.problems:
            run.same_weights = _are_equal(_read(final)["model"], weights)
        elif not final.exists():
            run.problems.append("there is no model_final.pth")
        return run

    def _reference(self, workers):
        """Returns the weights and the seconds of a run that nobody kills."""
        if workers not in self._references:
            self._start_anew()
            start = time.perf_counter()
            result = self._train(workers, limit=3600)
            if result.error or result.is_hung:
                raise RuntimeError(f"the run that nobody kills fails: {result.error}")
            seconds = time.perf_counter() - start
            self._references[workers] = _read(self.folder / "run" / "model_final.pth")["model"], seconds
        return self._references[workers]

    def _start_anew(self):
        copy_project(self.sound, self.folder)
        for path in (self.folder / "run").glob("*"):
            path.unlink()

    def _train(self, workers, limit):
        options = [option.format(steps=self.steps, workers=workers) for option in _OPTIONS]
        return attempt(functools.partial(train, self.folder, "config.py", *options), limit=limit)

    def _last_iteration(self):
        """Returns the iteration to go on from, None if there is none yet."""
        name = self.folder / "run" / "last_checkpoint"
        return _read(name.parent / name.read_text())["trainer"]["iteration"] if name.exists() else None

    def _damage(self, last):
        """Returns what a kill has damaged, given the iteration from before."""
        problems = []
        for path in (self.folder / "run").glob("*.pth"):
            try:
                _read(path)
            except Exception as error:  # of a damaged file: any
                problems.append(f"{path.name} cannot be read: {error}")
        try:
            iteration = self._last_iteration()
            if last is not None and (iteration is None or iteration < last):
                problems.append(f"it went back from iteration {last} to {iteration}")
        except (OSError, KeyError, RuntimeError) as error:
            problems.append(f"last_checkpoint names no checkpoint: {error}")
        return problems + self._torn_metrics()

    def _torn_metrics(self):
        path = self.folder / "run" / "metrics.json"
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines[:-1]:  # the last may be cut off until the run goes on
            try:
                json.loads(line)
            except ValueError:
                return [f"metrics.json has a line that is cut off: {line[:40]}"]
        return []


def _read(path):
    return torch.load(path, weights_only=True)


def _are_equal(weights, others):
    return weights.keys() == others.keys() and all(torch.equal(value, others[name]) for name, value in weights.items())
