"""Feature levels: which of the teacher's each of the student's learns from, and how the two become comparable."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from cankd.utils import UserError
from detectron2.layers import ShapeSpec
from tabulate import tabulate
from torch import Tensor, nn

__all__ = [
    "LevelPair",
    "check_sizes",
    "choose_levels",
    "describe_pairs",
    "match_levels",
    "padded_size",
    "pair_features",
]

USUAL_LEVELS = ("p3", "p4", "p5")  # the paper's


@dataclasses.dataclass(frozen=True)
class LevelPair:
    """A student's feature level and the teacher's that it learns from.

    Strides are input pixels between two positions, None where a level has no positions, or none that are known. Not
    every method adapts the student's channels.
    """

    student: str
    teacher: str
    student_stride: int | None
    teacher_stride: int | None
    student_channels: int
    teacher_channels: int
    adapts_channels: bool = True

    @property
    def adapter(self) -> str:
        """What is done to the student's feature before the two are compared, in words."""
        steps = []
        if self.student_stride != self.teacher_stride:
            steps.append("student resized")
        if self.adapts_channels and self.student_channels != self.teacher_channels:
            steps.append("1×1 convolution")
        return ", ".join(steps) or "none"


def match_levels(
    levels: Sequence[str],
    student_shapes: Mapping[str, ShapeSpec],
    teacher_shapes: Mapping[str, ShapeSpec],
    mapping: Mapping[str, str] | None = None,
) -> list[LevelPair]:
    """Finds the teacher's level for each of the student's: of the same stride, then of the same name.

    A level that is the path of a sub-module, with a dot or a colon in it, has the teacher's level of the same name.

    Args:
        levels: the student's levels to distil.
        student_shapes, teacher_shapes: what the two models compute.
        mapping: from student level to teacher level where the choice is made already; strides may differ then.

    Raises:
        UserError: if a level is missing, nothing matches, or the match is ambiguous. The message has both tables.
    """
    mapping = mapping or {}
    try:
        if unused := set(mapping) - set(levels):
            raise UserError(f"model.levels maps {sorted(unused)}, but head.levels has only {list(levels)}.")
        return [_match(level, student_shapes, teacher_shapes, mapping) for level in levels]
    except UserError as error:
        raise UserError(
            f"{error}\n{_describe_shapes(student_shapes, teacher_shapes)}\nChange head.levels (the student's levels to "
            "distil), or name the teacher's level for each in model.levels, for example model.levels={p3: p3}"
        ) from error


def _match(level, student_shapes, teacher_shapes, mapping):
    if level not in student_shapes:
        raise UserError(f"the student has no level {level!r}.")
    student = student_shapes[level]
    name = mapping.get(level) or _find_counterpart(level, student.stride, teacher_shapes)
    if name not in teacher_shapes:
        raise UserError(f"model.levels maps {level!r} to {name!r}, which the teacher lacks.")
    teacher = teacher_shapes[name]
    if (student.stride is None) != (teacher.stride is None):
        raise UserError(
            f"of the student's {level!r} and the teacher's {name!r} only one is a map of positions whose stride is "
            "known."
        )
    return LevelPair(level, name, student.stride, teacher.stride, student.channels, teacher.channels)


def _find_counterpart(level, stride, teacher_shapes):
    """Returns the teacher's level of a stride; of several, the one of the same name."""
    candidates = [
        name
        for name, shape in teacher_shapes.items()
        if shape.stride == stride and (name == level or not (is_path(name) or is_path(level)))
    ]
    if level in candidates:
        return level
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise UserError(f"the student's {level!r} matches {candidates} of the teacher, all of stride {stride}.")
    if is_path(level):
        raise UserError(f"the teacher has no level {level!r} of the same stride, {stride}.")
    if stride is None:
        raise UserError(
            f"the student's {level!r} has no positions or no known stride, and the teacher has no such level."
        )
    raise UserError(f"the teacher has no level of stride {stride}, which the student's {level!r} has.")


def choose_levels(
    student_shapes: Mapping[str, ShapeSpec],
    teacher_shapes: Mapping[str, ShapeSpec],
    mapping: Mapping[str, str] | None = None,
) -> list[str]:
    """Chooses the levels to distil: P3 to P5 where both models have them, otherwise all that pair up by their strides.

    Args:
        student_shapes, teacher_shapes: what the two backbones declare.
        mapping: from student level to teacher level; if there is one, its levels are distilled.

    Returns:
        The student's names.

    Raises:
        UserError: if no level pairs up. The message has both tables.
    """
    if mapping:
        return list(mapping)
    pairs = {}
    for level in (name for name, shape in student_shapes.items() if shape.stride is not None):
        with contextlib.suppress(UserError):
            pairs[level] = match_levels([level], student_shapes, teacher_shapes)[0].teacher
    if all(pairs.get(level) == level for level in USUAL_LEVELS):
        return list(USUAL_LEVELS)
    if not pairs:
        raise UserError(
            "no level of the student has the stride of one level of the teacher: name the student's levels in "
            f"model.head.levels and the teacher's in model.levels, for example model.levels={{res4: p3}}\n"
            f"{_describe_shapes(student_shapes, teacher_shapes)}"
        )
    return list(pairs)


def is_path(level: str) -> bool:
    """Tells whether a level is named by the path of a sub-module and not by an entry of the backbone's output."""
    return "." in level or ":" in level


def _describe_shapes(student_shapes, teacher_shapes):
    rows = [
        (role, name, "–" if shape.stride is None else shape.stride, shape.channels)
        for role, shapes in (("student", student_shapes), ("teacher", teacher_shapes))
        for name, shape in shapes.items()
    ]
    return tabulate(rows, ["model", "level", "stride", "channels"], "pipe")


def describe_pairs(pairs: Iterable[LevelPair]) -> str:
    """Returns a table of the distilled levels, for the log."""
    rows = [
        (
            _describe_level(pair.student, pair.student_stride, pair.student_channels),
            _describe_level(pair.teacher, pair.teacher_stride, pair.teacher_channels),
            pair.adapter,
        )
        for pair in pairs
    ]
    return tabulate(rows, ["student", "teacher", "adapter"], "pipe")


def _describe_level(name, stride, channels):
    return f"{name} ({'no known stride' if stride is None else f'stride {stride}'}, {channels} channels)"


def padded_size(model: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size to which a model of Detectron2's pads its images.

    Args:
        model: its backbone says what it asks for.
        size: height and width of the largest image of a batch, in pixels.
    """
    backbone = getattr(model, "backbone", None)
    multiple = max(1, getattr(backbone, "size_divisibility", 1))
    square = (getattr(backbone, "padding_constraints", None) or {}).get("square_size", 0)
    return tuple(max(square, math.ceil(side / multiple) * multiple) for side in size)


class PaddedSizes(NamedTuple):
    """Height and width of a batch's largest image, in pixels: its own, and as each model pads it."""

    image: tuple[int, int]
    student: tuple[int, int]
    teacher: tuple[float, float]


def check_sizes(
    pairs: Iterable[LevelPair],
    student_features: Mapping[str, Tensor],
    teacher_features: Mapping[str, Tensor],
    sizes: PaddedSizes,
) -> None:
    """Makes sure that two maps show the same part of an image, as their strides promise.

    What a backbone declares may be wrong: then one map would be compared with a corner of the other.

    Args:
        pairs: the levels.
        student_features, teacher_features: by each model's own names.
        sizes: of the batch that they were computed from.

    Raises:
        UserError: if they do not.
    """
    for pair in pairs:
        student, teacher = student_features[pair.student], teacher_features[pair.teacher]
        if student.ndim < 4:
            continue
        if pair.student_stride is None:
            agree = student.shape[2:] == teacher.shape[2:]
        else:
            seen = _coverage(student, pair.student_stride, sizes.image, sizes.student)
            agree = seen == _coverage(teacher, pair.teacher_stride, sizes.image, sizes.teacher)
        if not agree:
            raise UserError(
                f"for images of {_times(sizes.image)} the student's {pair.student!r} is {_times(student.shape[2:])} "
                f"and the teacher's {pair.teacher!r} is {_times(teacher.shape[2:]) or 'no map'}, which their strides "
                "do not explain: the two would be compared at different places. Correct what the backbone's "
                "output_shape() says, or choose another level"
            )


def _times(sides):
    return "×".join(map(str, sides))


def _coverage(feature, stride, image_size, padded):
    """Tells for each axis whether a map of a stride shows less than an image (-1), more than with its padding (1)."""
    shown = [positions * stride for positions in feature.shape[2:]]
    return [
        -1 if extent < 0.7 * side - stride else int(extent > 1.4 * most + 2 * stride)
        for extent, side, most in zip(shown, image_size, padded)
    ]


def pair_features(
    pairs: Iterable[LevelPair], student_features: Mapping[str, Tensor], teacher_features: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Brings the two features of each pair to one size.

    Args:
        pairs: the levels.
        student_features, teacher_features: by each model's own names, ``(N, C, H, W)`` or ``(N, K)``.

    Returns:
        The student's and the teacher's features by the student's level names.
    """
    students, teachers = {}, {}
    for pair in pairs:
        student, teacher = student_features[pair.student], teacher_features[pair.teacher]
        if student.ndim == 4:
            if pair.student_stride != pair.teacher_stride:
                scale = pair.student_stride / pair.teacher_stride
                student = F.interpolate(student, scale_factor=scale, mode="bilinear")
            # Both pad below and to the right, each by its own size divisibility: what they share is the top left.
            height, width = (min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:]))
            student, teacher = student[:, :, :height, :width], teacher[:, :, :height, :width]
        students[pair.student], teachers[pair.student] = student, teacher
    return students, teachers
