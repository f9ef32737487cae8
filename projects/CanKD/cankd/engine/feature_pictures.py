"""Pictures of features (supplement, figure 6) and of the attention that fuses them."""

import os
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from cankd.modeling import (
    VerifyingCheckpointer,
    backbone_shapes,
    compute_features,
    load_all_weights,
    match_levels,
)
from cankd.visualization import HeatMap, draw_heatmaps, reduce_channels
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from .files import write_json
from .models import LoadedModel, choose_records
from .training import build_model

__all__ = ["QUANTITIES", "draw_attention", "draw_features"]

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
    os.makedirs(output_dir, exist_ok=True)
    paths = []
    for record in tqdm(records, "Drawing", unit="image", leave=False, disable=None):
        features, strides = {}, {}
        for title, (model, mapper) in models.items():
            image = mapper(record)["image"]
            found = compute_features(model, [image], list(names[title].values()))
            features[title] = {level: found[name][0].float() for level, name in names[title].items()}
            shapes = backbone_shapes(model, title)
            strides[title] = {level: shapes[name].stride for level, name in names[title].items()}
        rows = {}
        for level in names[next(iter(names))]:
            maps = _compare({title: of[level] for title, of in features.items()}, level, quantity, reduction, top_k)
            rows[level] = {title: HeatMap(m.cpu().numpy(), strides[title][level]) for title, m in maps.items()}
        label = quantity if quantity == "correlation" else f"{quantity}, {_REDUCED[reduction].format(top_k)}"
        path = _path(output_dir, record, quantity)
        draw_heatmaps(path, _rgb(image, mapper), rows, label=label, signed=quantity == "correlation")
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
    for title in students:
        shapes = backbone_shapes(models[title], title)
        if missing := [level for level in levels if level not in shapes]:
            raise ValueError(f"the {title} has no level {', '.join(missing)}; it has {', '.join(shapes)}")
        names[title] = {level: level for level in levels}
    if "teacher" in models:
        teacher_shapes = backbone_shapes(models["teacher"], "teacher")
        student_shapes = backbone_shapes(models[students[0]], "student") if students else None
        if student_shapes is None:
            if missing := [level for level in levels if level not in teacher_shapes]:
                raise ValueError(f"the teacher has no level {', '.join(missing)}; it has {', '.join(teacher_shapes)}")
            names["teacher"] = {level: level for level in levels}
        else:
            mapping = {k: v for k, v in (config.model.get("levels") or {}).items() if k in levels}
            pairs = match_levels(levels, student_shapes, teacher_shapes, mapping)
            names["teacher"] = {pair.student: pair.teacher for pair in pairs}
    return {title: names[title] for title in models}


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


@torch.no_grad()
def draw_attention(
    config: DictConfig,
    output_dir: str,
    *,
    point: tuple[float, float] | None = None,
    box: tuple[float, float, float, float] | None = None,
    inputs: Sequence[str] = (),
    images: int = 1,
    levels: Sequence[str] = (),
) -> list[str]:
    """Draws which teacher positions a student's position draws on, at each distilled level.

    Only the rows of the chosen positions are computed.

    Args:
        config: of a distiller; ``train.init_checkpoint`` is a checkpoint of its run, with the distillation head.
        output_dir: gets a PNG for each image, and a JSON with the numbers.
        point: (x, y) in pixels of the image that the models see.
        box: (x0, y0, x1, y1), likewise; the attention is averaged over the positions in it. Either this or a point.
        inputs, images: see :func:`cankd.engine.choose_records`.
        levels: the student's names; all that are distilled if there are none.

    Returns:
        The PNG files.

    Raises:
        ValueError: if the checkpoint has no such head, or the point lies outside an image.
    """
    if (point is None) == (box is None):
        raise ValueError("choose the student's position either by a point or by a box")
    distiller = _load_distiller(config)
    pairs = [pair for pair in distiller.pairs if not levels or pair.student in levels]
    if unknown := set(levels) - {pair.student for pair in pairs}:
        raise ValueError(
            f"{', '.join(sorted(unknown))} is not distilled: the config's levels are {distiller.head.levels}"
        )
    mapper = instantiate(config.dataloader.test.mapper)
    affinity = config.model.head.get("affinity", "dot_product")
    os.makedirs(output_dir, exist_ok=True)
    paths = []
    for record in choose_records(config, inputs=inputs, images=images):
        data = mapper(record)
        area = box or (*point, *point)
        positions = {pair.student: _positions(area, pair.student_stride, data["image"].shape[1:]) for pair in pairs}
        student = compute_features(distiller.student, [data["image"]], distiller.head.levels)
        weights = distiller.head.attention_rows(*distiller.pair_features([data], student), positions)
        rows, marks = {}, {}
        for pair in pairs:
            values = weights[pair.student][0].mean(dim=0).cpu().numpy()
            stride = pair.teacher_stride * distiller.head.pool_size
            rows[pair.student] = {"teacher positions": HeatMap(values, stride)}
            centers = [
                ((x + 0.5) * pair.student_stride, (y + 0.5) * pair.student_stride) for y, x in positions[pair.student]
            ]
            marks[pair.student] = centers
        path = _path(output_dir, record, "attention")
        signed = affinity == "dot_product"
        draw_heatmaps(
            path,
            _rgb(data["image"], mapper),
            rows,
            label=f"weight, {affinity.replace('_', ' ')}",
            signed=signed,
            marks=marks,
        )
        numbers = {
            level: {"positions": positions[level], "weights": row["teacher positions"].values.tolist()}
            for level, row in rows.items()
        }
        write_json(f"{path.removesuffix('.png')}.json", {"image": record["file_name"], "attention": numbers})
        paths.append(path)
    return paths


def _load_distiller(config):
    """Builds the distiller with student and head from a checkpoint of its run."""
    path = config.train.init_checkpoint
    if "teacher" not in config.model:
        raise ValueError("this config describes one model, and the attention is between a student and its teacher")
    if not path:
        raise ValueError("give a checkpoint of the distillation by train.init_checkpoint=FILE")
    distiller = build_model(config).eval()
    load_all_weights(distiller.student, path, "student (train.init_checkpoint)")
    state = VerifyingCheckpointer(distiller.student).load(path).get("distillation_head")
    try:
        if state is None:
            raise ValueError("it holds none")
        distiller.head.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{path} has no distillation head of this config ({reason}): give a checkpoint of the run itself, not of a "
            "student alone or exported"
        ) from error
    return distiller


def _positions(area, stride, size):
    """Returns rows and columns of the positions within (x0, y0, x1, y1), in pixels of an image of (height, width)."""
    x0, y0, x1, y1 = area
    height, width = size
    if not (0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height):
        raise ValueError(f"the point or box {area} does not lie in the image, which the models see at {width}×{height}")
    rows, columns = (range(int(a // stride), int(b // stride) + 1) for a, b in ((y0, y1), (x0, x1)))
    return [(row, column) for row in rows for column in columns]


def _path(output_dir, record, kind):
    stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
    return os.path.join(output_dir, f"{stem}_{kind}.png")


def _rgb(image, mapper):
    """Returns a mapped image, ``(3, H, W)``, as the models see it, as RGB ``(H, W, 3)``."""
    return (image if mapper.image_format == "RGB" else image.flip(0)).permute(1, 2, 0).contiguous().numpy()
