"""What one training step tells: whether it runs, how its two aims get along, what the whole training will take."""

from collections.abc import Mapping, Sequence

import torch
from cankd.data import check_training_data
from cankd.engine import build_loader, build_optimizer, check_batch_size, choose_precision, measure_step, time_step
from cankd.modeling import Distiller
from cankd.utils import UserError, markdown_table
from omegaconf import DictConfig
from torch import nn

from .costs import cost_table, count_costs
from .findings import Findings
from .gradient_balance import KNOWN_TO_HELP, suggest_weight

__all__ = ["take_first_step"]


def take_first_step(
    config: DictConfig, model: Distiller, records: Sequence[Mapping] | None, num_gpus: int, findings: Findings
) -> dict:
    """Takes one training step as one process would, then a few that change nothing, for their time.

    Args:
        config: of the run.
        model: with its initial weights.
        records: of the training set; None if the loader brings its own.
        num_gpus: processes of the run.
        findings: takes what is found; a weight of the distillation that is unlikely to be good is a note.

    Returns:
        "gradients", "parameters" and "memory" of :class:`cankd.engine.StepMeasurements`; "step", with "images" of a
        process, "device", "seconds" and "hours" of the whole run; "cost" of an image by model.

    Raises:
        UserError: if data and model do not fit, the method lacks what it needs, or the memory is too small.
    """
    if records is not None:
        check_training_data(records, config.dataloader.train, model.student)
    batch = _load_batch(config.dataloader.train, model, records, num_gpus * config.train.accumulate)
    arguments = model.train(), build_optimizer(config, model), batch, choose_precision(config.train)
    try:
        measured, seconds = measure_step(*arguments), time_step(*arguments)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"a step of {len(batch)} images does not fit into the memory of the GPU: compute each batch in parts "
            "(train.accumulate=2 or more), add train.amp.enabled=True, or train on more GPUs (--num-gpus)"
        ) from error
    _describe_gradients(measured, model, findings)
    hours = seconds * config.train.accumulate * config.train.max_iter / 3600
    step = {"images": len(batch), "device": _name_of(config.train.device), "seconds": seconds, "hours": hours}
    _describe_step(step, measured.memory, config.train, findings)
    costs = count_costs(model, batch[0])
    size = "×".join(map(str, batch[0]["image"].shape[1:]))
    findings.show(f"\nCost of an image of {size}\n{cost_table(costs, parts=['total'])}")
    totals = {name: by_part["total"] for name, by_part in costs.items()}
    return {**measured._asdict(), "step": step, "cost": totals}


def _load_batch(loader, model, records, parts):
    """Returns the first batch, or part of one, of one process."""
    replaced = {} if records is None else {"dataset": records, "num_workers": 0}
    if "total_batch_size" in loader:
        check_batch_size(loader, parts)
        # A synchronised norm sees the images of all processes, and needs two.
        least = 2 if any(isinstance(module, nn.SyncBatchNorm) for module in model.student.modules()) else 1
        replaced["total_batch_size"] = max(least, loader.total_batch_size // parts)
    return next(iter(build_loader(loader, **replaced)))


def _describe_gradients(measured, model, findings):
    if not measured.gradients:
        findings.show("\nNo distillation: its weight is 0 (model.head.weight)")
        return
    everywhere = {"parameters": measured.parameters} if measured.parameters else {}
    rows = [
        (place, f"{row['ratio']:.2g}", f"{row['cosine']:+.2f}")
        for place, row in {**measured.gradients, **everywhere}.items()
    ]
    findings.show(
        "\nGradient of the distillation against the task's, at the student's features and at its parameters\n"
        + markdown_table(rows, ["at", "ratio", "cosine"])
    )
    ratio, weight = measured.parameters.get("ratio", 0.0), model.head.weight
    low, high = KNOWN_TO_HELP
    if suggested := suggest_weight(weight, ratio):
        findings.notes.append(
            f"at the parameters the distillation's gradient is {ratio:.2g} times the task's; from {low:g} to {high:g} "
            f"is known to help. Try model.head.weight={suggested:g} instead of {weight:g}, as a starting point"
        )
    else:
        findings.show(f"At the parameters {low:g} to {high:g} is known to help; ten times more or less may, too.")


def _describe_step(step, memory, options, findings):
    whole = f", each of {options.accumulate} such steps," if options.accumulate > 1 else ""
    parts = ", ".join(f"{name} {num_bytes / 2**30:.2f}" for name, num_bytes in memory.items())
    findings.show(
        f"\nA step of {step['images']} images on {step['device']}: {step['seconds']:.2g} s, without the data loader"
        f"\nAll {options.max_iter} iterations{whole} at this pace, on this machine: {step['hours']:.2g} hours"
        f"\nEstimated memory of a step of {step['images']} images: {sum(memory.values()) / 2**30:.2f} GiB ({parts})"
    )


def _name_of(device):
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} ({torch.get_num_threads()} threads)"
