"""What one training step of a distiller costs, and how its two aims pull at the student's features."""

from collections.abc import Collection, Mapping, Sequence

import torch
from cankd.modeling import Distiller
from cankd.utils import NonFiniteError
from detectron2.utils.events import EventStorage
from torch import Tensor

__all__ = ["compare_gradients", "measure_step"]

LOSS_SCALE = 2.0**12  # keeps small gradients above zero in float16, and changes neither ratio nor cosine


def measure_step(
    distiller: Distiller,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Mapping],
    precision: torch.dtype | None = None,
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Takes one training step.

    Args:
        distiller: in training mode.
        optimizer: of its parameters.
        batch: as Detectron2's data loaders give it.
        precision: of autocast; None for none.

    Returns:
        Of each level, what :func:`compare_gradients` gives; and bytes of "weights", "gradients", "optimizer" and
        "activations", the latter being what is kept for the backward pass.

    Raises:
        NonFiniteError: if a loss is infinite or NaN.
    """
    device = next(distiller.parameters()).device.type
    kept = _KeptActivations(distiller)
    with EventStorage(), distiller.record_student_features() as features:
        with torch.autocast(device, precision, enabled=precision is not None), kept:
            losses = distiller(batch)
    if broken := [name for name, loss in losses.items() if not loss.isfinite()]:
        raise NonFiniteError(
            f"{' and '.join(broken)} is infinite or NaN in the first step: look at the student's initial weights, its "
            "pixel_mean and pixel_std, and the annotations"
        )
    gradients = compare_gradients(losses, features, distiller.head.loss_names)
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
    return gradients, memory


def compare_gradients(
    losses: Mapping[str, Tensor], features: Mapping[str, Tensor], distillation_losses: Collection[str]
) -> dict[str, dict[str, float]]:
    """Compares, at the student's features, the gradient of the distillation losses with that of the task losses.

    Args:
        losses: as a :class:`Distiller` in training gives them; stay usable for the backward pass.
        features: the student's, by level, from the same forward pass.
        distillation_losses: names of those of the losses that are the distillation's.

    Returns:
        Map from level to "ratio", the norm of the distillation's gradient over that of the task's, and "cosine", that
        of the angle between them. Empty if the distillation's weight is 0.
    """
    distillation = sum(loss for name, loss in losses.items() if name in distillation_losses)
    task = sum(loss for name, loss in losses.items() if name not in distillation_losses)
    if not distillation.requires_grad:
        return {}
    pulls = [
        torch.autograd.grad(LOSS_SCALE * loss, list(features.values()), retain_graph=True, materialize_grads=True)
        for loss in (distillation, task)
    ]
    compared = {}
    for level, ours, theirs in zip(features, *pulls):
        ours, theirs = ours.double().flatten(), theirs.double().flatten()
        compared[level] = {
            "ratio": (ours.norm() / theirs.norm()).item(),
            "cosine": torch.cosine_similarity(ours, theirs, dim=0).item(),
        }
    return compared


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
