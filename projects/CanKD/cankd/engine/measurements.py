"""What one training step of a distiller costs, and how its two aims pull at the student's features."""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from cankd.modeling import Distiller
from cankd.modeling.distillation_heads.covariances import COVARIANCES
from cankd.utils import NonFiniteError
from detectron2.export import TracingAdapter
from detectron2.utils.analysis import FlopCountAnalysis
from detectron2.utils.events import EventStorage
from fvcore.nn import ActivationCountAnalysis, parameter_count
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn

__all__ = ["compare_gradients", "count_by_part", "count_flops", "measure_step"]

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


def count_flops(model: nn.Module, *inputs) -> int:
    """Counts the multiply-add operations of a model in evaluation mode by fvcore, which leaves out element-wise ones.

    Args:
        model: comes back in the mode that it was in.
        inputs: of its forward pass.
    """
    return count_by_part(model, *inputs)["total"]["flops"]


@torch.no_grad()
def count_by_part(model: nn.Module, *inputs, parts_of: str = "") -> dict[str, dict[str, int]]:
    """Counts, by fvcore, what the parts of a model have and do in evaluation mode.

    Args:
        model: comes back in the mode that it was in.
        inputs: of its forward pass.
        parts_of: path of the sub-module whose children are the parts; the model's own if not given.

    Returns:
        Map from the name of each of these children, and "total", to "parameters", "flops" (multiply-adds; element-wise
        operations do not count) and "activations" (elements that convolutions and matrix products put out).
    """
    training = model.training
    traced = TracingAdapter(model.eval(), inputs, allow_non_tensor=True)
    flops, activations = FlopCountAnalysis(model, inputs), ActivationCountAnalysis(traced, traced.flattened_inputs)
    flops.set_op_handle("torchvision::deform_conv2d", _deform_conv_flops)
    flops.set_op_handle(f"prim::PythonOp.{COVARIANCES}", _covariance_flops)
    for analysis in (flops, activations):
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    try:
        counted = dict(parameters=parameter_count(traced), flops=flops.by_module(), activations=activations.by_module())
    finally:
        model.train(training)
    prefix = ".".join(filter(None, ["model", parts_of]))
    children = [name for name, _ in model.get_submodule(parts_of).named_children()]
    parts = {**{name: f"{prefix}.{name}" for name in children}, "total": ""}
    return {part: {key: int(counts.get(name, 0)) for key, counts in counted.items()} for part, name in parts.items()}


def _deform_conv_flops(inputs, outputs):
    weight, output = get_shape(inputs[1]), get_shape(outputs[0])
    return math.prod(output) * math.prod(weight[1:])


def _covariance_flops(inputs, outputs):
    """Counts two products of all positions, of x with itself and with y, and y's variance; fvcore cannot see them."""
    batch, channels, *size = get_shape(inputs[0])
    return batch * channels * math.prod(size) * (2 * channels + 1)


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
