import contextlib
import os
import re
import sys
from collections.abc import Callable

from cankd.modeling import Distiller
from cankd.utils import UserError
from detectron2.engine import HookBase, hooks
from detectron2.utils.events import CommonMetricPrinter
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

__all__ = [
    "DistillationSchedule",
    "EarlyLines",
    "GradientClipping",
    "PeriodicCheckpoint",
    "PeriodicEvaluation",
    "ProgressBar",
    "WeightAveraging",
]


class DistillationSchedule(HookBase):
    """Sets the distillation losses' scale before each step: a linear warm-up from 0, then 1, and 0 after the stop."""

    def __init__(self, distiller: Distiller, *, warmup_iters: int = 0, stop_iter: int | None = None):
        """
        Args:
            distiller: whose ``distillation_scale`` is set.
            warmup_iters: iterations until the scale is 1.
            stop_iter: first iteration without distillation; None never stops.

        Raises:
            UserError: if an iteration is negative.
        """
        if warmup_iters < 0 or (stop_iter is not None and stop_iter < 0):
            raise UserError(
                f"train.distillation has warmup_iters={warmup_iters} and stop_iter={stop_iter}; neither may be negative"
            )
        self._distiller = distiller
        self._warmup_iters = warmup_iters
        self._stop_iter = stop_iter

    def before_step(self) -> None:
        """Sets the scale of the coming step and logs it."""
        scale = self.scale_at(self.trainer.iter)
        self._distiller.distillation_scale = scale
        self.trainer.storage.put_scalar("distillation_scale", scale, smoothing_hint=False)

    def scale_at(self, iteration: int) -> float:
        """Returns the scale of an iteration, between 0 and 1."""
        if self._stop_iter is not None and iteration >= self._stop_iter:
            return 0.0
        return min(1.0, iteration / self._warmup_iters) if self._warmup_iters else 1.0


class PeriodicEvaluation(hooks.EvalHook):
    """Detectron2's :class:`EvalHook`, which makes up for an evaluation that an interruption has ended."""

    def __init__(self, eval_period: int, eval_function: Callable[[], dict], *, is_done: Callable[[int], bool]):
        """
        Args:
            eval_period, eval_function: see :class:`EvalHook`.
            is_done: tells whether an earlier run has evaluated after an iteration; has to agree in all processes.
        """
        super().__init__(eval_period, eval_function)
        self._is_done = is_done

    def before_train(self) -> None:
        """Evaluates the step that a resumed run begins behind, if that was due and is not done."""
        start = self.trainer.start_iter
        is_due = 0 < start < self.trainer.max_iter and self._period > 0 and start % self._period == 0
        if is_due and not self._is_done(start - 1):
            self.trainer.iter = self.trainer.storage.iter = start - 1  # until the first step
            self._do_eval()


class GradientClipping(HookBase):
    """Clips the norm of all gradients together, the student's and the distillation head's."""

    def __init__(self, max_norm: float, norm_type: float = 2.0):
        """
        Args:
            max_norm: largest norm that is left as it is.
            norm_type: order of the norm.

        Raises:
            UserError: if the norm is not positive.
        """
        if not max_norm > 0:
            raise UserError(f"train.clip_gradients.max_norm is {max_norm}; it has to be positive")
        self._max_norm = max_norm
        self._norm_type = norm_type

    def after_backward(self) -> None:
        """Clips in place, unless the norm is infinite or NaN, which clipping would spread over all gradients.

        Under mixed precision the trainer has unscaled the gradients by now. It gets the norm.
        """
        groups = self.trainer.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"] if parameter.grad is not None]
        norm = get_total_norm([parameter.grad for parameter in parameters], self._norm_type)
        if norm.isfinite():
            clip_grads_with_norm_(parameters, self._max_norm, norm)
        self.trainer.gradient_norm = norm


class WeightAveraging(HookBase):
    """Averages a model's weights over the steps, its initial ones included."""

    def __init__(self, model: nn.Module, averaged: AveragedModel):
        """
        Args:
            model: is trained.
            averaged: its average.
        """
        self._model = model
        self._averaged = averaged

    def before_train(self) -> None:
        """Begins with the initial weights, unless a run is resumed."""
        if self._averaged.n_averaged == 0:
            self._averaged.update_parameters(self._model)

    def after_step(self) -> None:
        """Takes the step's weights into the average."""
        self._averaged.update_parameters(self._model)


class EarlyLines(HookBase):
    """Logs some of the first iterations, so that a slow machine need not reach ``log_period`` to show that it works."""

    ITERATIONS = (1, 2, 5, 10, 20, 50)

    def __init__(self, max_iter: int, log_period: int):
        """
        Args:
            max_iter: number of iterations of the training.
            log_period: of the usual log, whose lines are not doubled.
        """
        self._printer = CommonMetricPrinter(max_iter)
        self._log_period = log_period

    def after_step(self) -> None:
        """Writes a line after the iterations of this list, counted from the start or from where a run is resumed."""
        done = self.trainer.iter + 1
        if (
            done - self.trainer.start_iter in self.ITERATIONS
            and done % self._log_period
            and done < self.trainer.max_iter
        ):
            self._printer.write()


class PeriodicCheckpoint(hooks.PeriodicCheckpointer):
    """Detectron2's :class:`PeriodicCheckpointer`, whose ``max_to_keep`` counts the resumed run's checkpoints, too."""

    def before_train(self) -> None:
        """Finds the checkpoints of the iterations before this start, and removes those that are too many."""
        super().before_train()
        folder = self.checkpointer.save_dir
        matches = (re.fullmatch(rf"{self.file_prefix}_(\d+)\.pth", name) for name in os.listdir(folder))
        found = sorted((int(match[1]), match[0]) for match in matches if match)
        paths = [os.path.join(folder, name) for number, name in found if number < self.trainer.start_iter]
        surplus = max(0, len(paths) - self.max_to_keep) if self.max_to_keep else 0
        for path in paths[:surplus]:
            os.remove(path)
        self.recent_checkpoints = paths[surplus:]

    def after_step(self) -> None:
        """Saves; before, a run that begins and has taken a step forgets where another in this folder ended.

        Otherwise it would be resumed as that one if it were killed before it has saved anything.
        """
        if self.trainer.iter == 0:
            for name in ("last_checkpoint", "evaluations.json"):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(os.path.join(self.checkpointer.save_dir, name))
        super().after_step()


class ProgressBar(HookBase):
    """Shows a bar with the remaining time and the loss, for runs whose log goes to a file."""

    def before_train(self) -> None:
        """Opens the bar."""
        interval = 0.5 if sys.stderr.isatty() else 20
        self._bar = tqdm(
            total=self.trainer.max_iter, initial=self.trainer.start_iter, unit="iteration", mininterval=interval
        )

    def after_step(self) -> None:
        """Moves the bar."""
        self._bar.set_postfix(loss=f"{self.trainer.storage.history('total_loss').latest():.2f}", refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        """Closes the bar."""
        self._bar.close()
