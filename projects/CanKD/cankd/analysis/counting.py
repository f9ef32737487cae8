"""Parameters, operations and activations of models, counted by fvcore."""

import math
from collections import Counter
from collections.abc import Callable

import torch
from cankd.modeling.distillation_heads.covariances import COVARIANCES
from detectron2.export import TracingAdapter
from detectron2.utils.analysis import FlopCountAnalysis
from fvcore.nn import ActivationCountAnalysis, parameter_count
from fvcore.nn.jit_handles import bmm_flop_jit, get_shape
from torch import nn

__all__ = ["count_by_part", "count_executed"]


def count_by_part(model: nn.Module, *inputs, parts_of: str = "") -> dict[str, dict[str, int]]:
    """Counts what the parts of a model have and do in evaluation mode.

    Args:
        model: comes back in the mode that it was in.
        inputs: of its forward pass.
        parts_of: path of the sub-module whose children are the parts; the model's own if not given.

    Returns:
        Map from the name of each of these children, and "total", to "parameters", "flops" (multiply-adds; element-wise
        operations do not count) and "activations" (elements that convolutions and matrix products put out).
    """
    counted = _count(model, inputs)
    prefix = ".".join(filter(None, ["model", parts_of]))
    children = [name for name, _ in model.get_submodule(parts_of).named_children()]
    parts = {**{name: f"{prefix}.{name}" for name in children}, "total": ""}
    return {part: {key: int(counts.get(name, 0)) for key, counts in counted.items()} for part, name in parts.items()}


def count_executed(model: nn.Module, *inputs, run: Callable[[], object]) -> dict[str, int]:
    """Counts what a run that ends before the model's forward pass does executes of it.

    A trace, which fvcore counts, cannot be broken off. So the whole pass is counted, module by module, and of each
    module as much as it is called more rarely.

    Args:
        model, inputs: see :func:`count_by_part`.
        run: the shorter pass of the same inputs.

    Returns:
        What :func:`count_by_part` gives as "total"; the parameters are all of the model's.
    """
    counted = _count(model, inputs)
    whole, executed = _count_calls(model, lambda: model(*inputs)), _count_calls(model, run)
    total = {"parameters": int(counted["parameters"][""]), "flops": 0, "activations": 0}
    for path, module in model.named_modules():
        name = f"model.{path}".rstrip(".")
        for key in ("flops", "activations"):
            counts = counted[key]
            own = counts.get(name, 0) - sum(counts.get(f"{name}.{child}", 0) for child, _ in module.named_children())
            total[key] += int(own * executed[path] / max(whole[path], 1))
    return total


@torch.no_grad()
def _count(model, inputs):
    """Returns three maps from the path of a module, behind "model", to a number; "" is all."""
    training = model.training
    traced = TracingAdapter(model.eval(), inputs, allow_non_tensor=True)
    flops, activations = FlopCountAnalysis(model, inputs), ActivationCountAnalysis(traced, traced.flattened_inputs)
    flops.set_op_handle("torchvision::deform_conv2d", _deform_conv_flops)
    flops.set_op_handle("aten::baddbmm", lambda inputs, outputs: bmm_flop_jit(inputs[1:3], outputs))
    flops.set_op_handle(f"prim::PythonOp.{COVARIANCES}", _covariance_flops)
    for analysis in (flops, activations):
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    try:
        return dict(parameters=parameter_count(traced), flops=flops.by_module(), activations=activations.by_module())
    finally:
        model.train(training)


@torch.no_grad()
def _count_calls(model, run):
    calls = Counter()
    handles = [
        module.register_forward_pre_hook(lambda *_, path=path: calls.update([path]))
        for path, module in model.named_modules()
    ]
    training = model.training
    model.eval()
    try:
        run()
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return calls


def _deform_conv_flops(inputs, outputs):
    weight, output = get_shape(inputs[1]), get_shape(outputs[0])
    return math.prod(output) * math.prod(weight[1:])


def _covariance_flops(inputs, outputs):
    """Counts the two products that map x, and six moments. fvcore does not look into the function."""
    x, inner = get_shape(inputs[0]), get_shape(inputs[2])
    return (2 * inner[0] + 6) * math.prod(x)
