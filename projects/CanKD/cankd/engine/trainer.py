import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping

import torch
from cankd.modeling.losses import losses_by_name
from cankd.utils import NonFiniteError
from detectron2.engine import SimpleTrainer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

__all__ = ["DistillationTrainer", "EndOfTraining"]


class EndOfTraining(BaseException):
    """Raised by a hook to end training in order before its last iteration. No error, so that nothing logs it as one."""


_SMALLEST_SCALE = 2.0**-24  # the smallest number of float16


class DistillationTrainer(SimpleTrainer):
    """Detectron2's :class:`SimpleTrainer` with mixed precision on any device and losses that are checked on every rank.

    Without mixed precision its updates are those of :class:`SimpleTrainer`, bit for bit. The distillation losses come
    from the model like all others (see :class:`cankd.modeling.Distiller`); the task losses are left as they are.
    Gradients are unscaled before the hooks' ``after_backward``. TorchScript is run as it stands, as it rounds otherwise
    at its first calls in a process than at those after them that are optimised: a focal loss is, and a run that is
    resumed begins with a first call.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype | None = None,
        accumulate: int = 1,
    ):
        """
        Args:
            model: gives a dict of losses for what the loader gives.
            data_loader: iterable over batches.
            optimizer: of the trained parameters.
            precision: torch.float16 or torch.bfloat16 for automatic mixed precision; None for none.
            accumulate: number of parts that a batch is computed in, one after the other; their gradients add up.
        """
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.precision = precision
        self.accumulate = accumulate
        self.finished_iter: int | None = None  # the last iteration of this process whose step was taken
        self.grad_scaler = torch.amp.GradScaler(self.device_type, enabled=precision == torch.float16)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Trains from one iteration up to another, or to :class:`EndOfTraining`; hooks finish in both cases."""
        try:
            with contextlib.suppress(EndOfTraining):
                super().train(start_iter, max_iter)
        finally:
            self._data_loader_iter_obj = None  # ends its workers, for which a garbage collection takes seconds

    def open_loader(self) -> None:
        """Begins to iterate over the batches, if this has not begun."""
        _ = self._data_loader_iter  # made at the first access

    def run_step(self) -> None:
        """Trains on one batch.

        Raises:
            NonFiniteError: if a loss or a gradient is infinite or NaN, before the weights are touched. Under float16
                gradients may be, until their scale has been lowered so far that it is of no use.
        """
        assert self.model.training, "the model was changed to eval mode"
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        self.optimizer.zero_grad()
        try:
            losses = self._compute_gradients(data)
        except FloatingPointError as error:  # Detectron2's region proposal network raises it
            raise self._divergence("the proposals", data, f"; {error}") from error
        self.grad_scaler.unscale_(self.optimizer)
        self.gradient_norm = None
        self.after_backward()
        if self.gradient_norm is None:
            self.gradient_norm = get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self._write_checked_metrics(losses, data, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.finished_iter = self.iter
        self._check_scale()

    def _compute_gradients(self, data) -> dict[str, Tensor]:
        """Adds the gradients of a batch up, part by part; returns its losses, the means over all of its images."""
        totals = {}
        for part, share, is_last in self._split(data):
            with contextlib.nullcontext() if is_last else self._unsynchronized():
                with self._autocast(), torch.jit.optimized_execution(False):  # see the class
                    losses = losses_by_name(self.model(part))
                self.grad_scaler.scale(share * sum(losses.values())).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0) + share * loss.detach()
        return totals

    def _autocast(self):
        return torch.autocast(self.device_type, self.precision, enabled=self.precision is not None)

    def _split(self, data) -> Iterator[tuple]:
        """Yields the parts of a batch, each with its share of the images and whether it is the last."""
        if self.accumulate == 1:
            yield data, 1.0, True
            return
        # By turns, so that what a loader puts together, as labelled images first, is in every part.
        parts = [data[i :: self.accumulate] for i in range(min(self.accumulate, len(data)))]
        for i, part in enumerate(parts, start=1):
            yield part, len(part) / len(data), i == len(parts)

    def _unsynchronized(self):
        """Processes need to exchange the gradients of the last part alone, which are those of all by then."""
        return self.model.no_sync() if hasattr(self.model, "no_sync") else contextlib.nullcontext()

    def _write_checked_metrics(self, losses: Mapping[str, Tensor], data, data_time):
        """Fetches all losses from the device at once, for the check and for the log."""
        scalars = [*losses.values(), self.gradient_norm]
        *values, norm = torch.stack([scalar.detach().float().reshape(()) for scalar in scalars]).cpu()
        broken = [name for name, value in zip(losses, values) if not value.isfinite()]
        if not (broken or norm.isfinite() or self.grad_scaler.is_enabled()):
            broken = self._broken_gradients()
        if broken:
            shown = ", ".join(f"{name}={value:.4g}" for name, value in zip(losses, values))
            raise self._divergence(" and ".join(broken), data, f"; {shown}")
        self._write_metrics(dict(zip(losses, values)), data_time)

    def _divergence(self, what, data, shown=""):
        images = [record.get("image_id", record.get("file_name")) for record in data]
        return NonFiniteError(
            f"{what} became infinite or NaN at iteration {self.iter} (images {images}{shown}). No step was taken, and "
            "checkpoints are intact: lower the learning rate, lengthen the warm-up, or clip gradients "
            "(train.clip_gradients.max_norm)"
        )

    def _broken_gradients(self):
        """Names the first gradient that is infinite or NaN; none is if only the sum of their squares is too large."""
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return [f"the gradient of {name.removeprefix('module.')}"]
        return []

    def _check_scale(self):
        if self.grad_scaler.is_enabled() and self.grad_scaler.get_scale() < _SMALLEST_SCALE:
            raise NonFiniteError(
                "the gradients are infinite or NaN in float16 at whatever scale, now "
                f"{self.grad_scaler.get_scale():g}, at iteration {self.iter}: no step has been taken for long. Train "
                "in bfloat16 (train.amp.precision=bfloat16) or without mixed precision, or lower the learning rate"
            )

    def state_dict(self) -> dict:
        """Returns the state to resume from."""
        state = super().state_dict()
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping) -> None:
        """Continues from a state; the iteration is the last one that was finished.

        Learning rate, weight decay and the like stay those of this run's config, which may have changed to rescue it.
        """
        groups = self.optimizer.param_groups
        configured = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        super().load_state_dict(state_dict)
        for group, options in zip(self.optimizer.param_groups, configured):
            group.update(options, initial_lr=options["lr"])
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
