"""Which levels a distillation leaves out because images are too small."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from cankd.modeling import Distiller
from detectron2.structures import Boxes, Instances

from .findings import Findings
from .image_sizes import ImageSizes

__all__ = ["count_small_images", "describe_small_images"]

ENOUGH_IMAGES = 4  # no method needs more in a batch


def describe_small_images(
    model: Distiller, sizes: ImageSizes | None, batch_size: int, findings: Findings
) -> dict[str, int]:
    """Notes how many images are too small for a level; see :func:`count_small_images`."""
    if sizes is None or not model.head.is_active:
        return {}
    counts = count_small_images(model, sizes.at_least, batch_size)
    if counts:
        listed = ", ".join(f"{count} of {len(sizes.at_least)} for {level}" for level, count in counts.items())
        size = "×".join(map(str, sizes.smallest))
        findings.notes.append(
            f"Images as small as {sizes.smallest_file}, {size} in training, leave too few positions: batches of "
            f"them alone are distilled without {', '.join(counts)}, and counted in the log. So small are {listed}. "
            "Larger images, or other levels (model.head.levels), avoid that"
        )
    return counts


@torch.no_grad()
def count_small_images(distiller: Distiller, sizes: Sequence[tuple[int, int]], batch_size: int) -> dict[str, int]:
    """Counts the images that are too small for a level: a batch of only such images is distilled without it.

    A batch is as large as its largest image, so that a larger one beside them is enough.

    Args:
        distiller: is in evaluation mode afterwards.
        sizes: height and width of each image.
        batch_size: of one process.

    Returns:
        Map from each level that is left out for some to the number of images.
    """
    stride = max([32, *(pair.student_stride or 0 for pair in distiller.pairs)])
    groups = defaultdict(list)  # of images that the coarsest level sees alike
    for height, width in sizes:
        groups[-(-height // stride), -(-width // stride)].append((height, width))
    large_enough, counts = [], Counter()
    for group, members in sorted(groups.items(), key=lambda item: item[0][0] * item[0][1]):
        if any(group[0] >= height and group[1] >= width for height, width in large_enough):
            continue
        smallest = tuple(map(min, zip(*members)))
        if levels := _find_skipped_levels(distiller, smallest, min(batch_size, ENOUGH_IMAGES)):
            counts.update(dict.fromkeys(levels, len(members)))
        else:
            large_enough.append(group)
    return dict(sorted(counts.items()))


def _find_skipped_levels(distiller, size, images):
    """Returns the levels that are left out of a batch whose images are all of one size."""
    height, width = size
    instances = Instances(size, gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0, dtype=torch.long))
    record = {"image": torch.zeros(3, height, width, dtype=torch.uint8), "height": height, "width": width}
    batch, skipped = [{**record, "instances": instances}] * images, set()
    features = distiller.eval().compute_features(batch)
    distiller.head(*features, distiller.context_of(batch), skipped=skipped)
    return skipped
