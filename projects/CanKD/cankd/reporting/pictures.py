"""Pictures of data sets and of what models make of them."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence

import cv2
import torch
from cankd.data import load_records, metadata_of, without_broken_shapes
from cankd.evaluation import annotated_instances, confident_instances, match_greedily
from cankd.utils import UserError, make_output_dir
from cankd.visualization import draw_annotations, draw_class, draw_detections, draw_segmentation, save_grid
from detectron2.data import Metadata
from detectron2.data.detection_utils import read_image
from omegaconf import DictConfig
from tqdm import tqdm

from .models import LoadedModel, check_number, choose_records, load_models

__all__ = ["draw_comparison", "draw_data", "draw_predictions"]

SIDE = 480  # of a drawn image's shorter side, at least: smaller ones are enlarged so that labels stay readable
_SHAPES = {"pred_masks": "segmentation", "pred_keypoints": "keypoints"}  # of a model's instances and of annotations


def draw_data(dataset: DictConfig, path: str, *, images: int = 8, columns: int = 4) -> None:
    """Draws the first images of a data set: annotated boxes, masks and keypoints, else segmentations or classes.

    Args:
        dataset: lazy call with ``names``, as in ``dataloader.test.dataset``.
        path: PNG file to write.
        images: how many.
        columns: how many in a row.

    Raises:
        UserError: if there is nothing to draw, or the data set cannot be read.
    """
    check_number(images)
    make_output_dir(os.path.dirname(path))
    records, metadata = load_records(dataset)[:images], metadata_of(dataset)
    pictures = []
    for record in records:
        image, scale = _read(record)
        if record.get("annotations"):
            record = {**record, "sem_seg_file_name": None}  # above it, objects would be hard to see
        pictures.append(_draw_truth(image, record, metadata, scale))
    save_grid(path, [pictures[i : i + columns] for i in range(0, len(pictures), columns)])


def draw_predictions(
    config: DictConfig,
    path: str,
    *,
    baseline: str = "",
    inputs: Sequence[str] = (),
    images: int = 4,
    score_threshold: float = 0.3,
    only_differing: bool = False,
) -> None:
    """Draws what a config's models predict, side by side: the student (``train.init_checkpoint``) and its teacher.

    Args:
        config: of a distiller or of a plain model.
        path: PNG file to write.
        baseline: checkpoint of the same student, trained alone, to draw beside it.
        inputs: image files, and folders of them; the first images of the test set if there are none.
        images: how many of the test set.
        score_threshold: lowest score of a detection that is drawn.
        only_differing: whether to draw those images of the whole test set on which student and distilled student
            differ most: in objects that one of them finds, by class and IoU of 0.5, and the other does not. Of
            classifiers, those that one of them gets right and the other does not.

    Raises:
        UserError: if a checkpoint or an image is missing, or there is nothing to draw.
    """
    check_number(images)
    make_output_dir(os.path.dirname(path))
    models = load_models(config, baseline=baseline)
    if only_differing:
        if inputs or not {"student", "distilled student"} <= set(models):
            raise UserError(
                "images on which two students differ are chosen from the test set: give both, --baseline and "
                "train.init_checkpoint, and no --input"
            )
        records = load_records(config.dataloader.test.dataset)
        records = rank_by_difference(models["student"], models["distilled student"], records, score_threshold)[:images]
        if not records:
            raise UserError("the two students find the same objects, or are both right, in each image of the test set")
    else:
        records = choose_records(config, inputs=inputs, images=images)
    draw_comparison(models, config.dataloader.test.dataset, records, path, score_threshold=score_threshold)


@torch.no_grad()
def rank_by_difference(
    one: LoadedModel, other: LoadedModel, records: Sequence[dict], score_threshold: float
) -> list[dict]:
    """Returns the records on which two models differ, those with the most objects that only one finds first.

    Args:
        one, other: detectors, or classifiers.
        records: with annotations or labels, in Detectron2's format.
        score_threshold: lowest score of a detection that counts.

    Raises:
        UserError: if the models are neither, or nothing is annotated.
    """
    if not any(record.get("annotations") or "label" in record for record in records):
        raise UserError("the test set has no annotations: nothing tells what a model finds")
    differences = []
    for record in tqdm(records, "Looking for differences", unit="image", leave=False, disable=None):
        found = [_found_objects(model([record])[0], record, score_threshold) for model in (one, other)]
        differences.append(len(found[0] ^ found[1]))
    order = sorted(range(len(records)), key=lambda i: -differences[i])
    return [records[i] for i in order if differences[i]]


def _found_objects(output, record, score_threshold):
    """Returns the indices of the annotated objects that a model finds; a classifier may find the one that there is."""
    if "classes" in output:
        return {0} if output["classes"][0] == record["label"] else set()
    if "instances" not in output:
        raise UserError("only detectors and classifiers can be told apart by what they find")
    found = confident_instances(output["instances"], score_threshold)
    true = annotated_instances(record.get("annotations", ()), found.image_size)
    return set(match_greedily(found, true, iou_threshold=0.5, by_class=True).tolist()) - {-1}


@torch.no_grad()
def draw_comparison(
    models: Mapping[str, LoadedModel],
    dataset: DictConfig,
    records: Sequence[dict],
    path: str,
    *,
    score_threshold: float = 0.3,
) -> None:
    """Draws what several models make of images, and the ground truth where there is one, side by side.

    Args:
        models: map from title to model: detectors, classifiers, or segmentors, before which the image itself is drawn.
        dataset: lazy call with ``names``, as ``dataloader.test.dataset``.
        records: the images, in Detectron2's format.
        path: PNG file to write.
        score_threshold: lowest score of a detection that is drawn.
    """
    metadata = metadata_of(dataset)
    names = {title: _name_classes(loaded, metadata) for title, loaded in models.items()}
    has_segmentor = any(hasattr(loaded.model, "sem_seg_head") for loaded in models.values())
    annotated = {"annotations", "label", *(["sem_seg_file_name"] if has_segmentor else [])}
    has_truth = any(annotated & record.keys() for record in records)
    columns = defaultdict(list)
    for record in tqdm(records, "Drawing", unit="image", leave=False, disable=None):
        image, scale = _read(record)
        if has_segmentor:
            columns["image"].append(cv2.resize(image, None, fx=scale, fy=scale))
        outputs = {title: model([record])[0] for title, model in models.items()}
        for title, output in outputs.items():
            columns[title].append(_draw_output(image, output, record, names[title], score_threshold, scale))
        if has_truth:
            record = _keep_predicted(record, outputs.values())
            columns["ground truth"].append(_draw_truth(image, record, metadata, scale))
    save_grid(path, list(zip(*columns.values())), list(columns))


def _keep_predicted(record, outputs):
    """Returns a record without a segmentation, annotations, and their masks and keypoints that no model predicts."""
    if not any("sem_seg" in output for output in outputs):
        record = {**record, "sem_seg_file_name": None}
    if not any("instances" in output for output in outputs):
        return {**record, "annotations": []}
    fields = {field for output in outputs if "instances" in output for field in output["instances"].get_fields()}
    absent = {shape for field, shape in _SHAPES.items() if field not in fields}
    annotations = [
        {key: value for key, value in annotation.items() if key not in absent}
        for annotation in record.get("annotations", ())
    ]
    return {**record, "annotations": annotations}


def _draw_truth(image, record, metadata, scale):
    """Draws what is annotated; of a record without annotations, the image."""
    if record.get("sem_seg_file_name"):
        labels = read_image(record["sem_seg_file_name"]).squeeze()
        if not record.get("annotations"):
            return draw_segmentation(image, labels, metadata, scale=scale)
        image = draw_segmentation(image, labels, metadata)
    if "label" in record:
        return draw_class(image, metadata.image_classes[record["label"]], scale=scale)
    return _draw_annotations(image, record, metadata, scale)


def _draw_annotations(image, record, metadata, scale):
    height, width = image.shape[:2]
    annotations = [without_broken_shapes(each, width, height) for each in record.get("annotations", ())]
    return draw_annotations(image, annotations, metadata, scale=scale)


def _name_classes(loaded, metadata):
    """Returns the metadata with names for the classes that a model predicts."""
    for key in ("thing_classes", "image_classes"):
        names = metadata.get(key, [])
        if names and (own := loaded.name_classes(names)) is not names:
            return Metadata(**{**metadata.as_dict(), key: own})
    return metadata


def _draw_output(image, output, record, metadata, score_threshold, scale):
    if "sem_seg" in output:
        labels = output["sem_seg"].argmax(dim=0).cpu().numpy()
        if "instances" not in output:
            return draw_segmentation(image, labels, metadata, scale=scale)
        image = draw_segmentation(image, labels, metadata)  # a panoptic model's, below its instances
    if "classes" in output:
        best = int(output["classes"][0])
        is_right = best == record["label"] if "label" in record else None
        text = f"{metadata.image_classes[best]} {output['scores'][0]:.0%}"
        return draw_class(image, text, is_right=is_right, scale=scale)
    return draw_detections(image, output["instances"], metadata, score_threshold=score_threshold, scale=scale)


def _read(record):
    """Returns a record's RGB image and by how much to enlarge it."""
    image = read_image(record["file_name"], "RGB")
    return image, max(1.0, SIDE / min(image.shape[:2]))
