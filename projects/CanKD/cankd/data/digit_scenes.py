"""Digit Scenes, the embedded data set for detection and segmentation: digits anywhere on crops of photographs."""

import dataclasses
import json
import os
from typing import ClassVar

import cv2
import numpy as np
from cankd.utils import UserError
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from tqdm import tqdm

from .digit_images import CLASSES, DigitImages, save_png
from .registration import dataset_root

__all__ = ["DigitScenes", "register_digit_scenes"]

# Okabe and Ito's palette for colour-blind readers, two greys added: background, then the ten digits.
COLORS = [
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (153, 153, 153),
    (255, 255, 255),
    (102, 51, 153),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitScenes(DigitImages):
    """One split of Digit Scenes: what is drawn and where it lies.

    Attributes:
        max_digits: an image has between one and this many digits, at log-uniform sizes.

    Raises:
        UserError: if an argument is impossible.
    """

    image_size: int = 160
    digit_sizes: tuple[int, int] = (14, 72)
    max_digits: int = 5

    info_file: ClassVar[str] = "annotations.json"

    def __post_init__(self):
        super().__post_init__()
        if self.max_digits < 1:
            raise UserError(f"max_digits={self.max_digits} has to be at least 1")

    def draw(self, index: int) -> tuple[np.ndarray, np.ndarray, list[dict]]:
        """Draws one scene.

        Args:
            index: number of the image, from 0.

        Returns:
            The RGB image ``(H, W, 3)`` and the semantic mask ``(H, W)``, both uint8 (0 is the background, digit d is
            d + 1), and the instances as COCO annotations without ids.
        """
        rng = self._random_numbers(index)
        image = self._draw_background(rng)
        semantic = np.zeros(image.shape[:2], np.uint8)
        annotations, boxes = [], []
        for _ in range(rng.integers(1, self.max_digits + 1)):
            digit, alpha = self._draw_digit(rng)
            place = self._place(rng, len(alpha), boxes)
            if place is None:
                continue
            boxes.append(place)
            window = np.s_[place[1] : place[3], place[0] : place[2]]
            self._paste(rng, image, window, alpha, opacities=(0.55, 1))
            semantic[window][alpha > 0.5] = digit + 1
            annotations.append(_annotate(alpha > 0.5, digit, place[:2]))
        image += rng.normal(0, rng.uniform(2, 12), image.shape)
        return image.clip(0, 255).round().astype(np.uint8), semantic, annotations

    def _place(self, rng, size, boxes):
        """Finds a box ``(x0, y0, x1, y1)`` that keeps clear of the others, or None if twenty attempts fail."""
        for _ in range(20):
            x, y = rng.integers(0, self.image_size - size + 1, 2).tolist()
            if all(x >= b[2] or b[0] >= x + size or y >= b[3] or b[1] >= y + size for b in boxes):
                return x, y, x + size, y + size
        return None

    def _write(self, folder):
        for name in ("images", "semantic"):
            os.makedirs(os.path.join(folder, name))
        images, annotations = [], []
        for index in tqdm(range(self.num_images), f"Drawing {self.split} scenes", unit="image", disable=None):
            image, semantic, instances = self.draw(index)
            file_name = f"{index:06d}.png"
            save_png(os.path.join(folder, "images", file_name), image[..., ::-1])
            save_png(os.path.join(folder, "semantic", file_name), semantic)
            size = {"width": self.image_size, "height": self.image_size}
            images.append({"id": index, "file_name": file_name, **size})
            for instance in instances:
                annotations.append({"id": len(annotations) + 1, "image_id": index, **instance})
        contents = {
            "info": {"description": "Digit Scenes", "arguments": dataclasses.asdict(self)},
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
            "images": images,
            "annotations": annotations,
        }
        with open(os.path.join(folder, "annotations.json"), "w") as f:
            json.dump(contents, f)


def _annotate(mask, digit, offset):
    """Returns the COCO annotation of one digit; its polygons leave holes filled, as COCO's format does."""
    ys, xs = mask.nonzero()
    x, y = int(xs.min()), int(ys.min())
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Contours run through pixel centres; a pixel's centre lies half a pixel from its corner.
    polygons = [contour.reshape(-1, 2) + offset + 0.5 for contour in contours if len(contour) >= 3]
    return {
        "category_id": digit + 1,
        "bbox": [x + offset[0], y + offset[1], int(xs.max()) - x + 1, int(ys.max()) - y + 1],
        "area": int(mask.sum()),
        "segmentation": [polygon.ravel().tolist() for polygon in polygons],
        "iscrowd": 0,
    }


def register_digit_scenes(name: str, scenes: DigitScenes) -> None:
    """Registers a split in Detectron2's catalogs. It is drawn on first use, in ``$DETECTRON2_DATASETS/<name>``.

    Each record has instances with boxes and polygons and the file of the semantic mask (11 classes, 0 the background).

    Args:
        name: data set name, for example "digit_scenes_train"; also the folder's name.
        scenes: what to draw.
    """
    folder = os.path.join(dataset_root(), name)
    json_file = os.path.join(folder, "annotations.json")
    image_root = os.path.join(folder, "images")

    def load():
        scenes.build(folder)
        records = load_coco_json(json_file, image_root, name)
        for record in records:
            mask = os.path.basename(record["file_name"])
            record["sem_seg_file_name"] = os.path.join(folder, "semantic", mask)
        return records

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        sem_seg_root=os.path.join(folder, "semantic"),
        evaluator_type="coco",
        thing_classes=CLASSES,
        thing_colors=COLORS[1:],
        stuff_classes=["background", *CLASSES],
        stuff_colors=COLORS,
        ignore_label=255,
    )
