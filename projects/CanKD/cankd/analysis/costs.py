import copy
import functools
from collections.abc import Mapping, Sequence

import torch
from cankd.engine import build_model, is_distillation
from cankd.modeling import Distiller
from cankd.utils import markdown_table
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from .counting import count_by_part, count_executed

__all__ = ["cost_table", "count_config_costs", "count_costs"]

BATCH_SIZE = 3  # of the head: a norm may need two images, a correlation over the batch three


def count_costs(model: nn.Module, image: Mapping) -> dict[str, dict[str, dict[str, int]]]:
    """Counts what a model, or each model of a distiller, has and does for one image, by part.

    Args:
        model: a distiller or a plain model; comes back in the mode that it was in. A distiller takes a forward pass in
            training mode, which its norms count.
        image: as Detectron2's data loaders give it; with annotations for a distiller, whose head needs a training step.

    Returns:
        Map from "student", "teacher", "teacher, distilled levels" and "head" of a distiller, or "model", to what
        :func:`count_by_part` gives. The head has no entry where nothing is distilled.
    """
    if not isinstance(model, Distiller):
        return {"model": count_by_part(model, [image])}
    costs = {  # the teacher as it comes: a step folds its norms
        "student": count_by_part(model.student, [image]),
        "teacher": count_by_part(model.teacher.model, model.teacher.view([image], model.input_format)),
    }
    calls, training = [], model.training
    handle = model.head.register_forward_hook(lambda module, arguments, outputs: calls.append(arguments))
    try:
        with EventStorage(), torch.no_grad():
            model.train()(BATCH_SIZE * [image])
    finally:
        model.train(training)
        handle.remove()
    if calls:
        *features, context = calls[0]
        teach = functools.partial(model.teacher, [image], model.input_format)
        costs["teacher, distilled levels"] = {"total": count_executed(model.teacher.model, [image], run=teach)}
        by_part = count_by_part(_HeadInContext(model.head, context), *features, parts_of="head")
        costs["head"] = {part: _of_one_image(counts) for part, counts in by_part.items()}
    return costs


def _of_one_image(counts):
    return {key: count if key == "parameters" else count // BATCH_SIZE for key, count in counts.items()}


class _HeadInContext(nn.Module):
    """A head whose only inputs are features, which fvcore can trace."""

    def __init__(self, head, context):
        super().__init__()
        self.head = head
        self.context = context

    def forward(self, student_features, teacher_features):
        return self.head(student_features, teacher_features, self.context, skipped=set())


def count_config_costs(config: DictConfig, height: int, width: int) -> dict[str, dict[str, dict[str, int]]]:
    """Counts the costs of a config's models for one blank image; no weights are read.

    Args:
        config: of a distiller or of a plain model.
        height, width: of the image, in pixels.

    Returns:
        See :func:`count_costs`.
    """
    config = copy.deepcopy(config)
    if is_distillation(config):
        config.model.teacher.weights = None
    model = build_model(config)
    instances = Instances((height, width))
    instances.gt_boxes = Boxes([[0.25 * width, 0.25 * height, 0.5 * width, 0.5 * height]])
    instances.gt_classes = torch.zeros(1, dtype=torch.long)
    image, labels = torch.zeros(3, height, width, dtype=torch.uint8), torch.zeros(height, width, dtype=torch.long)
    record = {"image": image, "height": height, "width": width, "instances": instances, "sem_seg": labels, "label": 0}
    return count_costs(model, record)


def cost_table(costs: Mapping[str, Mapping[str, Mapping[str, int]]], *, parts: Sequence[str] | None = None) -> str:
    """Makes a Markdown table.

    Args:
        costs: as :func:`count_costs` gives them.
        parts: which to show; all that are not nothing if not given.
    """
    rows = []
    for model, by_part in costs.items():
        for part, counted in by_part.items():
            if part in parts if parts else any(counted.values()):
                values = counted["parameters"] / 1e6, counted["flops"] / 1e9, counted["activations"] / 1e6
                rows.append([model, part, *(f"{value:.2f}" for value in values)])
    headers = ["model", "part", "parameters (M)", "FLOPs (G)", "activations (M)"]
    return markdown_table(rows, headers, left=2)
