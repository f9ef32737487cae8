import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator

from cankd.utils import Interrupted, NonFiniteError
from detectron2.engine import HookBase
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer

from .stop_signals import StopSignals

__all__ = ["GracefulStop"]

logger = logging.getLogger(__name__)


class GracefulStop(HookBase):
    """Ends training in order when a signal asks for it: the step is finished and saved, so nothing is lost.

    All processes stop after the same step, whichever of them got the signal. A second request ends a process at once.
    The steps before an error are saved, too.

    Attributes:
        is_stopping: whether all have agreed to stop.
    """

    def __init__(self, checkpointer: Checkpointer, *, before_saving: Callable[[], None] = lambda: None):
        """
        Args:
            checkpointer: saves the state, on the main process. Its periodic hook has to run before this one.
            before_saving: is called on all processes once they have agreed to stop after a step.
        """
        self._checkpointer = checkpointer
        self._before_saving = before_saving
        self._signals = StopSignals(first=self._stop_evaluation, again=_end_at_once)
        self._evaluates = False
        self.is_stopping = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catches signals while training and evaluation run."""
        with self._signals:
            yield

    def after_step(self) -> None:
        """Raises :class:`Interrupted` on all processes if one of them was asked to stop."""
        if number := max(comm.all_gather(int(self._signals.received or 0))):
            self.is_stopping = True
            self._before_saving()
            self._save()
            comm.synchronize()
            raise Interrupted(number, together=True)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it, an evaluation, a signal ends the process at once: the state of training is as the step left it."""
        self._evaluates = True
        try:
            if self._signals.received:
                raise Interrupted(self._signals.received)
            yield
        finally:
            self._evaluates = False

    @contextlib.contextmanager
    def saving_on_error(self) -> Iterator[None]:
        """Within it, an error of this process loses no finished step: that of a broken image, say, or an evaluator's.

        Weights on their way to infinity are not saved. Of several processes, the first may be ended before it has
        saved if another fails.
        """
        try:
            yield
        except NonFiniteError:
            raise
        except (Exception, KeyboardInterrupt):
            try:
                self._save()
            except Exception as error:  # on a full disk, say
                logger.error("The steps since the last checkpoint are not saved: %s", error)
            raise

    def _stop_evaluation(self, number):
        if self._evaluates:
            raise Interrupted(number)

    def _save(self):
        """Saves the state after the last finished step, if the periodic checkpoint has not just done it."""
        if (iteration := self.trainer.finished_iter) is None:
            return
        self.trainer.iter = iteration  # it may be one more, where a step fails
        name = f"model_{iteration:07d}"
        last = self._checkpointer.has_checkpoint() and os.path.basename(self._checkpointer.get_checkpoint_file())
        if iteration < self.trainer.max_iter - 1 and last != f"{name}.pth":
            self._checkpointer.save(name, iteration=iteration)


def _end_at_once(number):
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
