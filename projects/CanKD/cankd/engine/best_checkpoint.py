import logging
import math
import os
from collections.abc import Iterable, Mapping

from cankd.checkpoint import DistillationCheckpointer
from cankd.evaluation import first_metric, lacks_boxes
from cankd.utils import UserError, read_record, write_json
from detectron2.engine import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from omegaconf import DictConfig

from .trainer import EndOfTraining

__all__ = ["BestCheckpoint", "build_best_checkpoint"]

logger = logging.getLogger(__name__)

AUTO = "auto"


class BestCheckpoint(HookBase):
    """Keeps the student of the best evaluation, ``model_best.pth``, and ends a training that no longer improves.

    It has to be the last hook, so that the others are through with an iteration that becomes the last one. All
    processes need it. ``evaluations.json`` beside the checkpoints says what a run that is resumed has to know;
    :class:`PeriodicCheckpoint` removes that of another run.
    """

    def __init__(
        self,
        checkpointer: DistillationCheckpointer,
        *,
        metric: str = AUTO,
        patience: int | None = None,
        min_delta: float = 0.0,
    ):
        """
        Args:
            checkpointer: saves the student.
            metric: of which more is better, "task/name" as in ``metrics.json``; "auto" for the first of
                :data:`cankd.evaluation.METRICS` that there is.
            patience: number of evaluations in a row without a gain after which training ends; None for never.
            min_delta: a gain is more than this above the best value before.

        Raises:
            UserError: if the patience is below 1.
        """
        if patience is not None and patience < 1:
            raise UserError(f"train.early_stopping.patience is {patience}; it has to be at least 1 evaluation, or None")
        self._checkpointer = checkpointer
        self._path = os.path.join(checkpointer.save_dir, "evaluations.json")
        self._metric = metric
        self._patience = patience
        self._min_delta = min_delta
        self._values: dict[int, float] = {}  # by iteration
        self._best: tuple[int, float] | None = None
        self._is_over = False

    def resume(self, start: int) -> bool:
        """Takes up what an interrupted run found.

        Args:
            start: first iteration that is still to come.

        Returns:
            Whether training has ended already.
        """
        if found := read_record(self._path, {"metric": str, "best": list | None, "values": dict}):
            if self._metric in (AUTO, found["metric"]):
                self._metric, self._best = found["metric"], found["best"] and tuple(found["best"])
                values = {int(i): math.nan if value is None else value for i, value in found["values"].items()}
                self._values = {i: value for i, value in values.items() if i < start}
        return self._decide()

    def has_observed(self, iteration: int) -> bool:
        """Tells, alike in all processes, whether the evaluation after an iteration is known."""
        return comm.all_gather(iteration in self._values)[0]

    def observe(self, results: Mapping) -> None:
        """Looks at the results of an evaluation.

        Args:
            results: map from task to metrics; empty except on the main process.

        Raises:
            UserError: if the metric is not among them. The training can be resumed with another.
        """
        iteration = min(self.trainer.iter, self.trainer.max_iter - 1)  # the former is one more after training
        if metrics := flatten_results_dict(results):
            self._take(iteration, metrics)
        self._is_over = self._decide()

    def before_train(self) -> None:
        """Ends training if the evaluation that a resumed run has made up for exhausts the patience."""
        self.after_step()

    def after_step(self) -> None:
        """Ends training, once the patience is exhausted."""
        if self._is_over:
            logger.info(
                "Training ends at iteration %d: %s has not risen above its best value by more than %g in %d "
                "evaluations (train.early_stopping).",
                self.trainer.iter,
                self._metric,
                self._min_delta,
                self._patience,
            )
            self._checkpointer.save("model_final", iteration=self.trainer.iter)
            raise EndOfTraining

    def _take(self, iteration, metrics):
        if self._metric == AUTO:
            self._metric = first_metric(metrics) or next(iter(metrics))
        is_unknown = self._metric not in metrics and not any(map(math.isfinite, self._values.values()))
        if is_unknown and not lacks_boxes(self._metric, metrics):
            names = [name for name in metrics if "-" not in name] or list(metrics)  # those of all classes
            raise UserError(
                f"train.best is {self._metric!r}, which this evaluation does not give; it gives {', '.join(names)}. "
                "Nothing is lost: name one of them, or None, and --resume"
            )
        value = float(metrics.get(self._metric, math.nan))
        self._values[iteration] = value
        if math.isfinite(value) and (self._best is None or value > self._best[1]):
            self._best = iteration, value
            self._checkpointer.save("model_best", is_last=False, iteration=iteration)
            logger.info("Best %s so far: %.4f at iteration %d", self._metric, value, iteration)
        write_json(self._path, {"metric": self._metric, "best": self._best, "values": self._values})

    def _decide(self):
        """Returns, in all processes, whether training is over."""
        is_over = self._patience is not None and self._patience <= _count_waiting(
            self._values.values(), self._min_delta
        )
        return comm.all_gather(is_over)[0]


def _count_waiting(values: Iterable[float], min_delta):
    """Returns how many values came after the last gain."""
    best, waiting = -math.inf, 0
    for value in values:
        if value > best + min_delta:
            best, waiting = value, 0
        else:
            waiting += 1
    return waiting


def build_best_checkpoint(config: DictConfig, checkpointer: DistillationCheckpointer) -> BestCheckpoint | None:
    """Returns the hook that ``train.best`` and ``train.early_stopping`` of a config ask for.

    Args:
        config: whole.
        checkpointer: saves the student.

    Returns:
        None where there is nothing to compare: ``train.best`` is None, or it is "auto" and nothing is evaluated before
        training ends.

    Raises:
        UserError: if a metric or early stopping is asked for, but there are no evaluations.
    """
    options, has_evaluator = config.train, config.dataloader.get("evaluator") is not None
    is_periodic = has_evaluator and options.eval_period > 0
    if options.early_stopping.patience is not None and not (is_periodic and options.best):
        raise UserError(
            f"train.early_stopping.patience={options.early_stopping.patience} needs evaluations during training and a "
            "metric to look at: set train.eval_period, dataloader.evaluator and train.best"
        )
    if options.best not in (None, AUTO) and not has_evaluator:
        raise UserError(f"train.best={options.best}, but the config has no dataloader.evaluator that would give it")
    if options.best is None or (options.best == AUTO and not is_periodic):
        return None
    return BestCheckpoint(checkpointer, metric=options.best, **options.early_stopping)
