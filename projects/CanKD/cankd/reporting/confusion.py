import csv
import functools
import logging
import os
from collections.abc import Mapping

import torch
from cankd.data import load_records, metadata_of
from cankd.evaluation import ClassConfusion, ConfusionCounts, ConfusionMatrix, annotated_instances
from cankd.utils import UserError, make_output_dir, replace_file, write_json
from cankd.visualization import draw_confusion_matrices
from omegaconf import DictConfig
from tqdm import tqdm

from .models import LoadedModel, check_number

__all__ = ["compare_confusion"]

logger = logging.getLogger(__name__)


@torch.no_grad()
def compare_confusion(
    models: Mapping[str, LoadedModel],
    loader: DictConfig,
    output_dir: str,
    *,
    counting: str = "one-to-one",
    iou_threshold: float = 0.5,
    score_threshold: float = 0.3,
    images: int | None = None,
) -> dict[str, ConfusionCounts]:
    """Counts what detectors, or classifiers, confuse on a test set, and draws it for all of them in one picture.

    Args:
        models: map from title to model. The picture also has the difference of the first two.
        loader: ``dataloader.test`` of a config: its data set and ``batch_size`` are used.
        output_dir: gets confusion.png, .json and .csv.
        counting, iou_threshold, score_threshold: of detectors, see :class:`cankd.evaluation.ConfusionMatrix`.
            "published" counts crowds as objects, too.
        images: how many of the test set; all if not given.

    Returns:
        Map from title to matrix.

    Raises:
        UserError: if a model is neither, all know other classes than the data set, the data set has no annotations for
            it, a number is impossible, or the directory cannot be written.
    """
    if images is not None:
        check_number(images)
    make_output_dir(output_dir)
    records = load_records(loader.dataset)[:images]
    metadata = metadata_of(loader.dataset)
    if any("label" in record for record in records):
        names, build = metadata.get("image_classes", []), ClassConfusion
    elif any("annotations" in record for record in records):
        rules = dict(counting=counting, iou_threshold=iou_threshold, score_threshold=score_threshold)
        names, build = metadata.get("thing_classes", []), functools.partial(ConfusionMatrix, **rules)
    else:
        raise UserError("the test set has neither annotations of objects nor labels: nothing can be confused")
    models = _of_same_classes(models, names)
    matrices = {title: build(names) for title in models}
    batch_size = loader.get("batch_size", 1)
    with tqdm(total=len(models) * len(records), unit="image", disable=None) as progress:
        for title, model in models.items():
            progress.set_description(title)
            for start in range(0, len(records), batch_size):
                batch = records[start : start + batch_size]
                for record, output in zip(batch, model(batch)):
                    _add(matrices[title], record, output, title)
                progress.update(len(batch))
    _write(matrices, output_dir)
    return matrices


def _of_same_classes(models, names):
    """Returns the models that know the data's classes, as a teacher need not."""
    kept = {title: loaded for title, loaded in models.items() if loaded.name_classes(names) is names}
    if left_out := ", ".join(sorted(models.keys() - kept.keys())):
        text = f"the data set has {len(names)} classes, and another number is predicted by the {left_out}"
        if not kept:
            raise UserError(text)
        logger.warning("%s, which is left out.", text.capitalize())
    return kept


def _add(matrix, record, output, title):
    if isinstance(matrix, ClassConfusion):
        if "classes" not in output:
            raise UserError(f"the {title} does not classify images, which the test set's labels are for")
        matrix.add(output["classes"], record["label"])
        return
    if "instances" not in output:
        raise UserError(f"the {title} detects nothing: confusion matrices are for detectors and classifiers")
    found = output["instances"]
    annotations, crowds = record.get("annotations", ()), matrix.counting == "published"
    matrix.add(found, annotated_instances(annotations, found.image_size, crowds=crowds))


def _write(matrices, output_dir):
    path = os.path.join(output_dir, "confusion")
    first = next(iter(matrices.values()))
    names = first.class_names
    shares = {title: matrix.percentages() for title, matrix in matrices.items()}
    difference = tuple(matrices)[1::-1] if len(matrices) > 1 else None
    draw_confusion_matrices(f"{path}.png", shares, names, difference=difference)
    counts = {title: matrix.counts.tolist() for title, matrix in matrices.items()}
    about = {"classes": names, "counting": first.counting, "rows": "true", "columns": "predicted"}
    write_json(f"{path}.json", {**about, "counts": counts})
    with replace_file(f"{path}.csv", "w") as f:
        writer = csv.writer(f)
        writer.writerow(["model", "true", "predicted", "count"])
        for title, matrix in matrices.items():
            for row, true in enumerate(names):
                writer.writerows([title, true, found, matrix.counts[row, column]] for column, found in enumerate(names))
