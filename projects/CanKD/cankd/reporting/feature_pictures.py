"""Pictures of features (supplement, figure 6)."""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from cankd.modeling import backbone_shapes, compute_features, match_levels
from cankd.visualization import HeatMap, draw_heatmaps, reduce_channels
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from .files import make_output_dir, write_json
from .models import LoadedModel

__all__ = ["QUANTITIES", "draw_features", "picture_path", "seen_image"]

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
        ValueError: if a level is missing, or student and teacher cannot be compared.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"the quantity is {quantity!r}; it has to be one of {', '.join(QUANTITIES)}")
    names = _level_names(config, {title: model for title, (model, _) in models.items()}, levels)
    if quantity != "feature" and not {"teacher"} < set(models):
        raise ValueError(f"the {quantity} is that of a student to its teacher: give a student's checkpoint, too")
    strides = {title: _strides(models[title].model, of) for title, of in names.items()}
    if quantity != "feature" and (
        differing := [k for k in strides["teacher"] if len({of[k] for of in strides.values()}) > 1]
    ):
        raise ValueError(f"at level {differing[0]!r} the strides differ: only the features themselves can be drawn")
    make_output_dir(output_dir)
    paths = []
    for record in tqdm(records, "Drawing", unit="image", leave=False, disable=None):
        features = {}
        for title, (model, mapper) in models.items():
            image = mapper(record)["image"]
            found = compute_features(model, [image], list(names[title].values()))
            features[title] = {level: found[name][0].float() for level, name in names[title].items()}
        rows = {}
        for level in names[next(iter(names))]:
            maps = _compare({title: of[level] for title, of in features.items()}, level, quantity, reduction, top_k)
            rows[level] = {title: HeatMap(m.cpu().numpy(), strides[title][level]) for title, m in maps.items()}
        label = quantity if quantity == "correlation" else f"{quantity}, {_REDUCED[reduction].format(top_k)}"
        path = picture_path(output_dir, record, quantity, paths)
        draw_heatmaps(path, seen_image(image, mapper), rows, label=label, signed=quantity == "correlation")
        numbers = {row: {title: _summary(m.values) for title, m in maps.items()} for row, maps in rows.items()}
        write_json(f"{path.removesuffix('.png')}.json", {"image": record["file_name"], quantity: numbers})
        paths.append(path)
    return paths


_REDUCED = {"mean": "mean over channels", "max": "largest channel", "norm": "L2 norm", "top": "mean of top {} channels"}


def _level_names(config, models: Mapping[str, nn.Module], levels):
    """Returns, for each model, a map from the level's name in the picture to its name in the model."""
    if not levels:
        is_distiller = "teacher" in config.model
        levels = config.model.head.levels if is_distiller else backbone_shapes(next(iter(models.values())), "model")
    students = [title for title in models if title != "teacher"]
    names = {}
    for title in students or models:
        shapes = backbone_shapes(models[title], title)
        if missing := [level for level in levels if level not in shapes]:
            raise ValueError(f"the {title} has no level {', '.join(missing)}; it has {', '.join(shapes)}")
        names[title] = {level: level for level in levels}
    if students and "teacher" in models:
        shapes = (backbone_shapes(models[title], title) for title in (students[0], "teacher"))
        mapping = {k: v for k, v in (config.model.get("levels") or {}).items() if k in levels}
        names["teacher"] = {pair.student: pair.teacher for pair in match_levels(levels, *shapes, mapping)}
    return {title: names[title] for title in models}


def _strides(model, names):
    shapes = backbone_shapes(model, "model")
    return {level: shapes[name].stride for level, name in names.items()}


def _compare(features: Mapping[str, Tensor], level, quantity, reduction, top_k):
    """Returns the map of each model, ``(H, W)``; those of students only where they are compared with the teacher."""
    if quantity == "feature":
        return {title: reduce_channels(feature, reduction, top_k) for title, feature in features.items()}
    maps, teacher = {}, features["teacher"]
    for title, student in features.items():
        if title == "teacher":
            continue
        if len(student) != len(teacher):
            raise ValueError(
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


def seen_image(image: Tensor, mapper: Callable) -> np.ndarray:
    """Returns a mapped image, ``(3, H, W)``, as the models see it, as RGB ``(H, W, 3)``."""
    return (image if mapper.image_format == "RGB" else image.flip(0)).permute(1, 2, 0).contiguous().numpy()
