from collections.abc import Mapping, Sequence

import torch
from cankd.modeling import Distiller, StepContext
from detectron2.config import instantiate
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig

__all__ = ["find_smallest_image", "find_skipped_levels"]


def find_smallest_image(records: Sequence[Mapping], mapper: DictConfig) -> tuple[tuple[int, int], str] | None:
    """Finds the image of a data set that is smallest in training.

    Args:
        records: in Detectron2's format; those that do not say their size are left out.
        mapper: lazy call of a mapper, of whose augmentations ``ResizeShortestEdge`` counts, at its smallest.

    Returns:
        Height and width after resizing, and the file; None if no record says its size.
    """
    augmentations = getattr(getattr(instantiate(mapper), "augmentations", None), "augs", ())
    resizes = [augmentation for augmentation in augmentations if isinstance(augmentation, ResizeShortestEdge)]
    sizes = []
    for record in records:
        if not {"height", "width"} <= record.keys():
            continue
        size = record["height"], record["width"]
        for resize in resizes:
            size = resize.get_output_shape(*size, min(resize.short_edge_length), resize.max_size)
        sizes.append((size, record["file_name"]))
    return min(sizes, key=lambda entry: (min(entry[0]), max(entry[0])), default=None)


@torch.no_grad()
def find_skipped_levels(distiller: Distiller, size: tuple[int, int], images: int) -> list[str]:
    """Finds the levels that a distillation leaves out where all images of a batch are of one size.

    Args:
        distiller: is in evaluation mode afterwards.
        size: height and width of the images.
        images: of the batch.
    """
    height, width = size
    instances = Instances(size, gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0, dtype=torch.long))
    record = {"image": torch.zeros(3, height, width, dtype=torch.uint8), "height": height, "width": width}
    batch, skipped = [{**record, "instances": instances}] * images, set()
    strides = {pair.student: pair.teacher_stride for pair in distiller.pairs}
    features = distiller.eval().compute_features(batch)
    distiller.head(*features, StepContext(batch, strides), skipped=skipped)
    return sorted(skipped)
