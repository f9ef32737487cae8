"""Pictures of features (supplement, figure 6)."""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from cankd.engine import is_distillation
from cankd.modeling import FeatureSource, backbone_shapes, choose_levels, match_levels
from cankd.modeling.levels import is_path
from cankd.utils import UserError, make_output_dir, write_json
from cankd.visualization import HeatMap, draw_heatmaps, reduce_channels
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from .models import LoadedModel

__all__ = ["QUANTITIES", "draw_features", "picture_path"]

QUANTITIES = ("feature", "difference", "correlation")


@torch.no_grad()
def draw_features(
    models: Mapping[str, LoadedModel],
    config: DictConfig,
    records: Sequence[dict],
    output_dir: str,
    *,
    levels: Sequence[str] = (),
    quantity: str = "feature",
    reduction: str = "mean",
    top_k: int = 8,
) -> list[str]:
    """Draws the feature levels of several models over images.

    Args:
        models: map from title to model; the last may be the teacher of the others, as :func:`load_models` gives them.
        config: of a distiller or of a plain model, whose levels are drawn.
        records: the images, in Detectron2's format.
        output_dir: gets a PNG for each image, and a JSON with the numbers.
        levels: the student's names; those that the config distils, or all of a plain model, if there are none.
        quantity: "feature"; "difference", that of a student's feature to the teacher's after instance normalisation;
            or "correlation", the cosine of the two over the channels of a position, after the same.
        reduction, top_k: see :func:`cankd.visualization.reduce_channels`; the correlation needs none.

    Returns:
        The PNG files.

    Raises:
        UserError: if a level is missing, or student and teacher cannot be compared.
    """
    if quantity not in QUANTITIES:
        raise UserError(f"the quantity is {quantity!r}; it has to be one of {', '.join(QUANTITIES)}")
    sources = feature_sources(config, models, levels)
    if quantity != "feature" and not {"teacher"} < set(models):
        absent = "a student's checkpoint" if "teacher" in models else "--teacher and --teacher-weights"
        raise UserError(f"the {quantity} is that of a student to its teacher: give {absent}, too")
    strides = {title: {level: shape.stride for level, shape in s.shapes().items()} for title, s in sources.items()}
    for level in strides["teacher"] if quantity != "feature" else ():
        if len({of_model[level] for of_model in strides.values()}) > 1:
            raise UserError(f"at level {level!r} the strides differ: only the features themselves can be drawn")
    make_output_dir(output_dir)
    paths = []
    for record in tqdm(records, "Drawing", unit="image", leave=False, disable=None):
        features = {title: sources[title].compute(models[title].read([record])) for title in models}
        rows = {}
        for level in features[next(iter(models))]:
            maps = _compare({title: f[level] for title, f in features.items()}, level, quantity, reduction, top_k)
            rows[level] = {title: HeatMap(m.cpu().numpy(), strides[title][level]) for title, m in maps.items()}
        label = quantity if quantity == "correlation" else f"{quantity}, {_REDUCED[reduction].format(top_k)}"
        path = picture_path(output_dir, record, quantity, paths)
        model = next(iter(models.values()))
        draw_heatmaps(path, model.rgb(record), rows, label=label, signed=quantity == "correlation")
        numbers = {row: {title: _summary(m.values) for title, m in maps.items()} for row, maps in rows.items()}
        write_json(f"{path.removesuffix('.png')}.json", {"image": record["file_name"], quantity: numbers})
        paths.append(path)
    return paths


_REDUCED = {"mean": "mean over channels", "max": "largest channel", "norm": "L2 norm", "top": "mean of top {} channels"}


class _Levels(NamedTuple):
    """A model's features by the names that they have in the picture."""

    model: LoadedModel
    source: FeatureSource
    names: Mapping[str, str]

    def shapes(self):
        shapes = self.model.rescale(self.source.output_shape())
        return {level: shapes[name] for level, name in self.names.items()}

    def compute(self, records):
        features = self.source.compute(records)
        return {level: features[name][0].float() for level, name in self.names.items()}


def feature_sources(config, models, levels):
    """Returns, for each model, where the levels come from. The teacher's may have other names."""
    if not levels:
        levels = (
            _distilled_levels(config, models) if is_distillation(config) else backbone_shapes(models["model"].model)
        )
    students = [title for title in models if title != "teacher"]
    found = {}
    for title in students or models:
        source = FeatureSource(models[title].model, levels, title)
        if flat := [level for level, shape in source.output_shape().items() if shape.stride is None]:
            raise UserError(f"level {flat[0]!r} of the {title} has no positions to draw: choose others by --levels")
        found[title] = _Levels(models[title], source, {level: level for level in levels})
    if students and "teacher" in models:
        found["teacher"] = _teacher_levels(config, models["teacher"], found[students[0]].shapes())
    return {title: found[title] for title in models}


def _distilled_levels(config, models):
    head = instantiate(config.model.head)
    if head.lacks_levels:
        student = next(iter(models.values()))  # the teacher, last, if there is none
        shapes = (loaded.rescale(backbone_shapes(loaded.model)) for loaded in (student, models["teacher"]))
        head.choose_levels(choose_levels(*shapes, dict(config.model.get("levels") or {})))
    return head.levels


def _teacher_levels(config, teacher, student_shapes):
    mapping = {k: v for k, v in dict(config.model.get("levels") or {}).items() if k in student_shapes}
    paths = [mapping.get(level, level) for level in student_shapes if is_path(mapping.get(level, level))]
    declared = backbone_shapes(teacher.model)
    source = FeatureSource(teacher.model, [*declared, *(path for path in paths if path not in declared)], "teacher")
    pairs = match_levels(list(student_shapes), student_shapes, teacher.rescale(source.output_shape()), mapping)
    return _Levels(
        teacher, source.select([pair.teacher for pair in pairs]), {pair.student: pair.teacher for pair in pairs}
    )


def _compare(features: Mapping[str, Tensor], level, quantity, reduction, top_k):
    """Returns the map of each model, ``(H, W)``; those of students only where they are compared with the teacher."""
    if quantity == "feature":
        return {title: reduce_channels(feature, reduction, top_k) for title, feature in features.items()}
    maps, teacher = {}, features["teacher"]
    for title, student in features.items():
        if title == "teacher":
            continue
        if len(student) != len(teacher):
            raise UserError(
                f"at level {level!r} the {title} has {len(student)} channels and the teacher {len(teacher)}: only the "
                "features themselves can be drawn"
            )
        height, width = (min(a, b) for a, b in zip(student.shape[1:], teacher.shape[1:]))
        ours, theirs = (F.instance_norm(f[None, :, :height, :width])[0] for f in (student, teacher))
        if quantity == "difference":
            maps[title] = reduce_channels((ours - theirs).abs(), reduction, top_k)
        else:
            maps[title] = F.cosine_similarity(ours, theirs, dim=0)
    return maps


def _summary(values):
    return {"min": float(values.min()), "mean": float(values.mean()), "max": float(values.max())}


def picture_path(output_dir: str, record: Mapping, kind: str, taken: Sequence[str] = ()) -> str:
    """Returns the PNG file for an image, by its name; images of one name are numbered.

    Args:
        output_dir: its directory.
        record: of the image, in Detectron2's format.
        kind: what is drawn.
        taken: files of other images.
    """
    stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
    names = (f"{stem}{'' if i == 1 else f'_{i}'}_{kind}.png" for i in itertools.count(1))
    return next(path for path in (os.path.join(output_dir, name) for name in names) if path not in taken)
