"""What a search over DetKDS's genes chooses from (Li et al., ICML 2024), and which choices are in vain."""

from collections.abc import Mapping

import torch
from cankd.utils import UserError
from detectron2.structures import Boxes, Instances

from .detkds_head import DetKDSHead
from .distillation_head import StepContext

__all__ = ["SEARCH_SPACES", "SEARCH_WEIGHTS", "check_genes"]

_SPACE = {
    "first": ("no", "drop", "satt", "catt", "mask"),
    "second": ("no", "scale_r1", "scale_r2", "multi_scale_r4", "local_s1", "local_s2", "local_s4", "scale"),
    "third": (
        *("no", "bmm", "mm", "batch", "channel", "norm_HW", "norm_C", "norm_N"),
        *("min_max_normalize", "batchnorm"),
    ),
    "distance": ("l1", "l2", "kl", "smooth_l1", "cos", "pear"),
    "weight": (0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 50.0),
}
_SOFTMAXES = ("softmax_N", "softmax_C", "softmax_HW", "logsoftmax_N", "logsoftmax_C", "logsoftmax_HW")

SEARCH_SPACES = {
    "global": _SPACE,
    "foreground": _SPACE,
    "instance": {
        **_SPACE,
        "first": ("no", "satt", "catt", "mask"),
        "second": ("no", "scale_r1", "scale_r2", "multi_scale_r4", "scale"),
        "third": ("norm_C",),
    },
    "logits": {**_SPACE, "first": ("no",), "second": ("no",), "third": (*_SPACE["third"], *_SOFTMAXES)},
}
"""Of each scope, the choices for each gene as published; for logits those of the table that has its published form."""

SEARCH_WEIGHTS = {
    "global": (1.0, 2.0, 5.0, 10.0),
    "foreground": (0.0, 1.0, 2.0, 5.0),
    "instance": (1.0, 2.0, 5.0, 10.0),
    "logits": (1.0, 2.0, 5.0),
}
"""Of each scope, the weights as published that are tried once the forms of all scopes are found."""


def check_genes(genes: Mapping[str, str | float], *, images_per_gpu: int = 2) -> None:
    """Makes sure, in milliseconds, that training by these genes is not in vain.

    Args:
        genes: "scope", "first", "second", "third", "distance" and others of :class:`DetKDSHead`'s arguments.
        images_per_gpu: of a batch.

    Raises:
        UserError: with the reason. Rejected are "kl" without a log-softmax, "cos", "bmm" of patches, for instances
            what moves or removes positions, for logits a first or second operation, and with a single image on a GPU
            whatever compares the images of a batch; and a form that is not finite on a random batch.
    """
    head = DetKDSHead(**{**genes, "weight": 1.0, "levels": ["map"], "in_channels": 8})
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, images_per_gpu, 8, 12, 16, generator=generator)
    student.requires_grad_()
    loss = sum(head({"map": student}, {"map": teacher}, _random_boxes(images_per_gpu)).values())
    (gradient,) = torch.autograd.grad(loss, student)
    if not (loss.isfinite() and gradient.isfinite().all()):
        form = " → ".join((head.scope, head.first, head.second, head.third, head.distance))
        raise UserError(f"{form} is infinite or NaN on a random batch: choose other operations")


def _random_boxes(images):
    """Returns the context of images of 128×96 pixels with two objects each."""
    instances = Instances((96, 128), gt_boxes=Boxes([[8, 16, 60, 70], [40, 30, 100, 96]]))
    return StepContext([{"image": torch.zeros(3, 96, 128), "instances": instances}] * images, {"map": 8})
