from collections.abc import Sequence

import torch
from cankd.checkpoint import VerifyingCheckpointer, load_all_weights
from cankd.engine import build_mapper, build_model, is_distillation, test_data
from cankd.modeling import CanKDHead
from cankd.utils import UserError, make_output_dir, write_json
from cankd.visualization import HeatMap, draw_heatmaps
from omegaconf import DictConfig

from .feature_pictures import picture_path
from .models import LoadedModel, choose_records

__all__ = ["draw_attention"]


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
        inputs, images: see :func:`cankd.reporting.choose_records`.
        levels: the student's names; all that are distilled if there are none.

    Returns:
        The PNG files.

    Raises:
        UserError: if the checkpoint has no such head, or the point lies outside an image.
    """
    if (point is None) == (box is None):
        raise UserError("choose the student's position either by a point or by a box")
    distiller = _load_distiller(config)
    head = _attending_head(distiller)
    pairs = [pair for pair in distiller.pairs if pair.student in (levels or head.levels)]
    if unknown := set(levels) - set(head.levels):
        raise UserError(f"{', '.join(sorted(unknown))} is not distilled: the config's levels are {head.levels}")
    student = LoadedModel(distiller, build_mapper(test_data(config).mapper))
    make_output_dir(output_dir)
    paths = []
    for record in choose_records(config, inputs=inputs, images=images):
        (data,) = student.read([record])
        size = data["image"].shape[1:]
        positions = {pair.student: _positions(box or (*point, *point), pair.teacher_stride, size) for pair in pairs}
        rows = _attend(distiller, head, data, positions, pairs)
        marks = {
            pair.student: [tuple((i + 0.5) * pair.teacher_stride for i in (x, y)) for y, x in positions[pair.student]]
            for pair in pairs
        }
        path, image = picture_path(output_dir, record, "attention", paths), student.rgb(record)
        label = f"weight, {head.affinity.replace('_', ' ')}"
        draw_heatmaps(path, image, rows, label=label, signed=head.attention_is_signed, marks=marks)
        numbers = {
            level: {"positions": positions[level], "weights": row["teacher positions"].values.tolist()}
            for level, row in rows.items()
        }
        write_json(f"{path.removesuffix('.png')}.json", {"image": record["file_name"], "attention": numbers})
        paths.append(path)
    return paths


def _attending_head(distiller):
    """Returns the head that attends; it may be one of several."""
    for module in distiller.head.modules():
        if isinstance(module, CanKDHead) and module.has_attention:
            return module
    raise UserError(f"{type(distiller.head).__name__} of this config has no attention to draw: CanKDHead has")


def _attend(distiller, head, data, positions, pairs):
    """Returns, for each level, the mean over the student's positions of what they draw from the teacher's."""
    weights = head.attention_rows(*distiller.compute_features([data]), positions)
    rows = {}
    for pair in pairs:
        values = weights[pair.student][0].mean(dim=0).cpu().numpy()
        rows[pair.student] = {"teacher positions": HeatMap(values, pair.teacher_stride * head.pool_size)}
    return rows


def _load_distiller(config):
    """Builds the distiller with student and head from a checkpoint of its run."""
    path = config.train.init_checkpoint
    if not is_distillation(config):
        raise UserError("this config describes one model, and the attention is between a student and its teacher")
    if not path:
        raise UserError("give a checkpoint of the distillation by train.init_checkpoint=FILE")
    distiller = build_model(config).eval()
    load_all_weights(distiller.student, path, "student (train.init_checkpoint)")
    state = VerifyingCheckpointer(distiller.student).load(path).get("distillation_head")
    try:
        if state is None:
            raise KeyError("it holds none")
        distiller.head.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        reason = str(error.args[0]).strip().splitlines()[0]
        raise UserError(
            f"{path} has no distillation head of this config ({reason}): give a checkpoint of the run itself, not of a "
            "student alone or exported"
        ) from error
    return distiller


def _positions(area, stride, size):
    """Returns rows and columns of the positions within (x0, y0, x1, y1), in pixels of an image of (height, width)."""
    x0, y0, x1, y1 = area
    height, width = size
    if not (0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height):
        raise UserError(f"the point or box {area} does not lie in the image, which the models see at {width}×{height}")
    rows, columns = (range(int(a // stride), int(b // stride) + 1) for a, b in ((y0, y1), (x0, x1)))
    return [(row, column) for row in rows for column in columns]
