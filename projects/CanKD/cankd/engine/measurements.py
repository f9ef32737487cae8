"""What one training step of a distiller costs, and how its two aims pull at the student."""

import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from cankd.modeling import Distiller
from cankd.utils import NonFiniteError
from detectron2.utils.events import EventStorage
from torch import Tensor

__all__ = ["StepMeasurements", "compare_gradients", "measure_step", "time_step"]

LOSS_SCALE = 2.0**12  # keeps small gradients above zero in float16, and changes neither ratio nor cosine


class StepMeasurements(NamedTuple):
    """What :func:`measure_step` gives.

    Attributes:
        gradients: of each level, how the two gradients at the student's feature compare: "ratio", the norm of the
            distillation's over that of the task's, and "cosine", that of the angle between them.
        parameters: the same at the student's parameters that both train, all together.
        memory: bytes of "weights", "gradients", "optimizer" and "activations", the latter being what is kept for the
            backward pass.

    The first two are empty if the distillation's weight is 0.
    """

    gradients: dict[str, dict[str, float]]
    parameters: dict[str, float]
    memory: dict[str, int]


def measure_step(
    distiller: Distiller,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Mapping],
    precision: torch.dtype | None = None,
) -> StepMeasurements:
    """Takes one training step.

    Args:
        distiller: in training mode.
        optimizer: of its parameters.
        batch: as Detectron2's data loaders give it.
        precision: of autocast; None for none.

    Raises:
        NonFiniteError: if a loss is infinite or NaN.
    """
    kept = _KeptActivations(distiller)
    with EventStorage(), distiller.record_student_features() as features:
        with _autocast(distiller, precision), kept:
            try:
                losses = distiller(batch)
            except FloatingPointError as error:  # of Detectron2's region proposal network
                raise _divergence(["the box or the score of a proposal"]) from error
    if broken := [name for name, loss in losses.items() if not loss.isfinite()]:
        raise _divergence(broken)
    student = [p for p in distiller.student.parameters() if p.requires_grad]
    gradients, parameters = compare_gradients(losses, features, distiller.head.loss_names, student)
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    trained = [p for p in distiller.parameters() if p.requires_grad]
    states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    memory = {
        "weights": _num_bytes([*distiller.parameters(), *distiller.buffers()]),
        "gradients": _num_bytes(trained),
        "optimizer": _num_bytes(states),
        "activations": sum(kept.storages.values()),
    }
    return StepMeasurements(gradients, parameters, memory)


def _divergence(broken):
    return NonFiniteError(
        f"{' and '.join(broken)} is infinite or NaN in the first step: look at the student's initial weights, its "
        "pixel_mean and pixel_std, and the annotations"
    )


def time_step(
    distiller: Distiller,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Mapping],
    precision: torch.dtype | None = None,
    *,
    repeats: int = 3,
    longest: float = 20.0,
) -> float:
    """Measures how many seconds a training step takes, the data loader left out.

    The learning rate is 0 meanwhile: all parameters stay as they are. What is built at the first step should be there.

    Args:
        distiller, optimizer, batch, precision: see :func:`measure_step`.
        repeats: steps, of which the median counts.
        longest: seconds after which no further step is begun.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    seconds = []
    while len(seconds) < repeats and sum(seconds) < longest:
        start = _now(distiller)
        with EventStorage(), _autocast(distiller, precision):
            losses = distiller(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        seconds.append(_now(distiller) - start)
    for group, rate in zip(optimizer.param_groups, rates):
        group["lr"] = rate
    return statistics.median(seconds)


def _autocast(distiller, precision):
    return torch.autocast(next(distiller.parameters()).device.type, precision, enabled=precision is not None)


def _now(distiller):
    device = next(distiller.parameters()).device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def compare_gradients(
    losses: Mapping[str, Tensor],
    features: Mapping[str, Tensor],
    distillation_losses: Collection[str],
    parameters: Sequence[Tensor] = (),
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Compares the gradient of the distillation losses with that of the task losses.

    Args:
        losses: as a :class:`Distiller` in training gives them; stay usable for the backward pass.
        features: the student's, by level, from the same forward pass.
        distillation_losses: names of those of the losses that are the distillation's.
        parameters: the student's.

    Returns:
        "gradients" and "parameters" of :class:`StepMeasurements`.
    """
    distillation = sum(loss for name, loss in losses.items() if name in distillation_losses)
    task = sum(loss for name, loss in losses.items() if name not in distillation_losses)
    if not distillation.requires_grad:
        return {}, {}
    pulls = [
        torch.autograd.grad(LOSS_SCALE * loss, [*features.values(), *parameters], retain_graph=True, allow_unused=True)
        for loss in (distillation, task)
    ]
    pairs = list(zip(*pulls))
    by_level = {}
    for (level, feature), pair in zip(features.items(), pairs):
        ours, theirs = (torch.zeros_like(feature) if pull is None else pull for pull in pair)
        by_level[level] = _compare([ours], [theirs])
    shared = [pair for pair in pairs[len(features) :] if not any(pull is None for pull in pair)]
    return by_level, _compare(*zip(*shared)) if shared else {}


def _compare(ours, theirs):
    ours, theirs = (torch.cat([pull.double().flatten() for pull in pulls]) for pulls in (ours, theirs))
    ratio, cosine = ours.norm() / theirs.norm(), torch.cosine_similarity(ours, theirs, dim=0)
    return {"ratio": ratio.item(), "cosine": cosine.item()}


class _KeptActivations(torch.autograd.graph.saved_tensors_hooks):
    """Context in which the storages that autograd keeps are recorded, parameters aside."""

    def __init__(self, model):
        super().__init__(self._pack, lambda tensor: tensor)
        self.parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.storages = {}  # bytes by address

    def _pack(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.parameters:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor


def _num_bytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
