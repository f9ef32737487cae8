"""Feature levels of a backbone: recording them, matching those of two backbones, computing only those asked for."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN
from detectron2.structures import ImageList
from tabulate import tabulate
from torch import Tensor, nn

__all__ = [
    "LevelPair",
    "backbone_shapes",
    "compute_features",
    "describe_pairs",
    "match_levels",
    "record_features",
    "restrict_backbone",
]


@dataclasses.dataclass(frozen=True)
class LevelPair:
    """A student's feature level and the teacher's that it learns from; strides in input pixels."""

    student: str
    teacher: str
    student_stride: int
    teacher_stride: int
    student_channels: int
    teacher_channels: int

    @property
    def adapter(self) -> str:
        """What is done to the student's feature before the two are compared, in words."""
        steps = []
        if self.student_stride != self.teacher_stride:
            steps.append("student resized")
        if self.student_channels != self.teacher_channels:
            steps.append("1×1 convolution")
        return ", ".join(steps) or "none"


def backbone_shapes(model: nn.Module, role: str) -> dict[str, ShapeSpec]:
    """Returns the shapes of the feature levels that a model's backbone computes.

    Args:
        model: a model with ``backbone``, as Detectron2's meta-architectures have.
        role: "student" or "teacher", for the message.

    Raises:
        ValueError: if there is no backbone that names its outputs.
    """
    output_shape = getattr(getattr(model, "backbone", None), "output_shape", None)
    if output_shape is None:
        raise ValueError(
            f"the {role} is a {type(model).__name__} without a `backbone` that has `output_shape()`; distillation "
            "needs a model whose backbone returns a dict of features, as RetinaNet and GeneralizedRCNN have"
        )
    return output_shape()


def match_levels(
    levels: Sequence[str],
    student_shapes: Mapping[str, ShapeSpec],
    teacher_shapes: Mapping[str, ShapeSpec],
    mapping: Mapping[str, str] | None = None,
) -> list[LevelPair]:
    """Finds the teacher's level for each of the student's: of the same stride, then of the same name.

    Args:
        levels: the student's levels to distil.
        student_shapes, teacher_shapes: what the two backbones compute.
        mapping: from student level to teacher level where the choice is made already; strides may differ then.

    Raises:
        ValueError: if a level is missing, nothing matches, or the match is ambiguous. The message has both tables.
    """
    mapping = mapping or {}

    def refuse(problem):
        raise ValueError(
            f"{problem}\n{_describe_shapes(student_shapes, teacher_shapes)}\nChange head.levels (the student's levels "
            "to distil), or name the teacher's level for each in model.levels, for example model.levels={p3: p3}"
        )

    if unused := set(mapping) - set(levels):
        refuse(f"model.levels maps {sorted(unused)}, but head.levels has only {list(levels)}.")
    pairs = []
    for level in levels:
        if level not in student_shapes:
            refuse(f"the student has no level {level!r}.")
        stride = student_shapes[level].stride
        if level in mapping:
            candidates = [mapping[level]]
            if mapping[level] not in teacher_shapes:
                refuse(f"model.levels maps {level!r} to {mapping[level]!r}, which the teacher lacks.")
        else:
            candidates = [name for name, shape in teacher_shapes.items() if shape.stride == stride]
            if len(candidates) > 1 and level in candidates:
                candidates = [level]
        if not candidates:
            refuse(f"the teacher has no level of stride {stride}, which the student's {level!r} has.")
        if len(candidates) > 1:
            refuse(f"the student's {level!r} matches {candidates} of the teacher, all of stride {stride}.")
        teacher = teacher_shapes[candidates[0]]
        student = student_shapes[level]
        pairs.append(LevelPair(level, candidates[0], stride, teacher.stride, student.channels, teacher.channels))
    return pairs


def _describe_shapes(student_shapes, teacher_shapes):
    rows = [
        (role, name, shape.stride, shape.channels)
        for role, shapes in (("student", student_shapes), ("teacher", teacher_shapes))
        for name, shape in shapes.items()
    ]
    return tabulate(rows, ["model", "level", "stride", "channels"], "pipe")


def describe_pairs(pairs: Iterable[LevelPair]) -> str:
    """Returns a table of the distilled levels, for the log."""
    rows = []
    for pair in pairs:
        rows.append(
            (
                f"{pair.student} (stride {pair.student_stride}, {pair.student_channels} channels)",
                f"{pair.teacher} (stride {pair.teacher_stride}, {pair.teacher_channels} channels)",
                pair.adapter,
            )
        )
    return tabulate(rows, ["student", "teacher", "adapter"], "pipe")


@contextlib.contextmanager
def record_features(backbone: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Gives a dict that fills with the features that the backbone returns while the context lasts."""
    features = {}
    handle = backbone.register_forward_hook(lambda module, inputs, outputs: features.update(outputs))
    try:
        yield features
    finally:
        handle.remove()


def restrict_backbone(backbone: nn.Module, levels: Sequence[str]) -> nn.Module:
    """Returns a backbone that shares the given one's weights and computes, if it is an FPN, no level that is not
    needed.

    A level is needed if it is asked for or if a finer one that is asked for builds on it. Other backbones come back as
    they are.

    Args:
        backbone: stays usable, whole.
        levels: names of the levels asked for.
    """
    if type(backbone) is not FPN:
        return backbone
    names = list(backbone.output_shape())
    lateral, extra = names[: len(backbone.in_features)], names[len(backbone.in_features) :]
    finest = min((lateral.index(level) for level in levels if level in lateral), default=len(lateral) - 1)
    view = copy.copy(backbone)  # a copy of this kind shares parameters, buffers and sub-modules
    view.in_features = backbone.in_features[finest:]
    view.lateral_convs = backbone.lateral_convs[: len(lateral) - finest]
    view.output_convs = backbone.output_convs[: len(lateral) - finest]
    if not set(levels) & set(extra):
        view._modules = dict(backbone._modules, top_block=None)
        extra = []
    view._out_features = lateral[finest:] + extra
    return view


def compute_features(
    model: nn.Module, images: Sequence[Tensor], levels: Sequence[str], backbone: nn.Module | None = None
) -> dict[str, Tensor]:
    """Computes features of images as a model itself would: normalised and padded by its own rules.

    Detectron2's meta-architectures have no common method for that.

    Args:
        model: with ``backbone``, ``pixel_mean`` and ``pixel_std``.
        images: ``(3, H, W)`` each, in the model's channel order, on any device.
        levels: names of the backbone's levels; others are computed only as far as these build on them.
        backbone: what computes them, if it is not the model's own restricted to them.

    Returns:
        Map from level to feature, ``(N, C, H, W)``.
    """
    backbone = restrict_backbone(model.backbone, levels) if backbone is None else backbone
    images = [(image.to(model.pixel_mean.device) - model.pixel_mean) / model.pixel_std for image in images]
    batch = ImageList.from_tensors(
        images, backbone.size_divisibility, padding_constraints=backbone.padding_constraints
    ).tensor
    features = backbone(batch)
    return {level: features[level] for level in levels}
