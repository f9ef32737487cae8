import logging
from collections.abc import Iterable, Mapping

import torch
from cankd.data import ResumableLoader
from cankd.modeling import DistillationHead, Distiller
from cankd.utils import random_state, set_random_state
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from .unlabelled_loader import UnlabelledLoader
from .unsaved_numbers import UnsavedNumbers

__all__ = ["RunState"]

logger = logging.getLogger(__name__)


class RunState(HookBase):
    """What the future of a run depends on beside weights, optimizer and schedule, so that a resume is exact.

    This is, of every process, the random states, the place in the data, numbers that student and head keep outside of
    their state dicts, the random numbers of the heads, and how many batches lacked a level. It is a part of the
    trainer's state. All processes collect it after the steps that are saved, so this hook has to run on all of them,
    and before what saves. A step that fails in the backward pass leaves what its forward pass has changed, such as the
    statistics of batch norms.
    """

    def __init__(self, model: nn.Module, loaders: Mapping[str, Iterable], *, periods: Iterable[int]):
        """
        Args:
            model: a distiller or a plain model, before it trains.
            loaders: of the training's batches, by the key of the config that describes them. A
                :class:`cankd.data.ResumableLoader` is continued where it was, any other begins anew.
            periods: of the iterations after which the run may be saved; 0 for never. After the last one it always is.
        """
        self._loaders = loaders
        self._periods = [period for period in periods if period > 0]
        self._distiller = model if isinstance(model, Distiller) else None
        trained = nn.ModuleList([model.student, model.head] if self._distiller else [model])
        self._heads = [module for module in trained.modules() if isinstance(module, DistillationHead)]
        self._numbers = UnsavedNumbers(trained)
        self._state: Mapping = {}

    def before_step(self) -> None:
        """Restores the state before the first step of a run that is resumed."""
        if self.trainer.iter == self.trainer.start_iter > 0:
            for line in self._restore():
                logger.warning("This resume is not exact: %s.", line)

    def after_step(self) -> None:
        """Collects the state if this step may be saved; of a single process always, as the next step may fail."""
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter or any(done % period == 0 for period in self._periods):
            self.collect()
        elif comm.get_world_size() == 1:
            self._state = {"iteration": self.trainer.iter, "processes": [self._own_state()]}

    def collect(self) -> None:
        """Collects the state behind the step from all processes; all have to call it."""
        own = {**self._own_state(), "numbers": self._numbers.state_dict()}
        self._state = {"iteration": self.trainer.iter, "processes": comm.gather(own)}

    def _own_state(self):
        """Returns what each step changes of this process, without the numbers, which take longer to look through."""
        return {
            "random": random_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
            "loaders": {key: loader.state_dict() for key, loader in self._resumable().items()},
            "heads": [head.generator_states() for head in self._heads],
            "skipped_batches": dict(self._distiller.skipped_batches) if self._distiller else {},
        }

    def _resumable(self):
        resumable = ResumableLoader, UnlabelledLoader
        return {key: loader for key, loader in self._loaders.items() if isinstance(loader, resumable)}

    def _restore(self):
        """Restores what can be, and yields what is not exact."""
        states = self._state.get("processes")
        if not states:
            yield "the checkpoint has no random states and no place in the data, which both begin anew"
            return
        has_all = len(states) == comm.get_world_size()
        own = states[comm.get_rank() if has_all else 0]
        yield from self._restore_loaders(own["loaders"])
        self._numbers.load_state_dict(own["numbers"])
        if self._distiller:
            self._distiller.skipped_batches.update(own.get("skipped_batches", {}))  # which older checkpoints lack
        self.trainer.open_loader()  # which draws, so that the random states come last
        if not has_all:
            yield f"the random states are those of {len(states)} processes, and here are {comm.get_world_size()}"
            return
        for head, generators in zip(self._heads, own["heads"]):
            head.restore_generators(generators)
        set_random_state(own["random"])
        if own["cuda"] is not None and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(own["cuda"])
        elif own["cuda"] is not None:
            yield "the checkpoint has the random numbers of a GPU, and the run goes on without one"

    def _restore_loaders(self, states):
        resumable = self._resumable()
        for key, loader in self._loaders.items():
            if key not in resumable:
                yield f"{key} is no loader of Detectron2's with one of its samplers, so its data begin anew"
            elif key not in states:
                yield f"{key} begins anew, as it had no place in the data when the checkpoint was saved"
            elif differences := loader.load_state_dict(states[key]):
                yield f"{key} goes on at about the same place, with {' and '.join(differences)}"

    def state_dict(self) -> Mapping:
        """Returns the collected state; nothing if it is not that of the trainer's iteration."""
        if self._state.get("iteration") != self.trainer.iter:
            return {}
        for own in self._state["processes"]:
            own.setdefault("numbers", self._numbers.state_dict())
        return self._state

    def load_state_dict(self, state: Mapping) -> None:
        """Keeps a state for the first step.

        Args:
            state: of :meth:`state_dict`.
        """
        self._state = state
