"""Digit Scenes, the embedded data set: real handwritten digits on real photographs, made from installed packages.

The 1,797 digits of scikit-learn are pasted at log-uniform sizes, in any colour and at several opacities, on random
crops of the photographs that scikit-image and scikit-learn ship. Train and val use disjoint digits. Each image depends
only on (seed, split, index), so the same arguments give the same pixels.
"""

import dataclasses
import functools
import importlib.util
import json
import os
import shutil

import cv2
import numpy as np
from cankd.utils import UserError
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from iopath.common.file_io import file_lock
from PIL import Image
from tqdm import tqdm

__all__ = ["DigitScenes", "register_digit_scenes"]

CLASSES = [str(digit) for digit in range(10)]
SPLITS = {"train": 0, "val": 1}
TRAIN_DIGITS = 1400  # of the 1,797; val has the rest
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


def _check_sources():
    for package, name in (("skimage", "scikit-image"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"Digit Scenes are drawn from pictures that {name} ships, and it is not installed: pip install "
                "'cankd[demo]', or pip install scikit-image scikit-learn"
            )


@functools.cache
def _load_digits():
    """Returns the digit images, ``(1797, 8, 8)`` in [0, 1], and their classes, in a fixed random order."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    return (digits.images[order] / 16).astype(np.float32), digits.target[order]


@functools.cache
def _load_photographs():
    """Returns the background photographs as RGB images."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    arrays = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]
    arrays += [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    return [Image.fromarray(array) for array in arrays]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitScenes:
    """One split of Digit Scenes: what is drawn and where it lies.

    Attributes:
        split: "train" or "val"; they share no digit.
        num_images: number of images.
        image_size: side of the square images, in pixels.
        digit_sizes: smallest and largest side of a digit's 8×8 grid once enlarged, in pixels.
        max_digits: an image has between one and this many digits.
        seed: of everything random.

    Raises:
        UserError: if the split is unknown or a size does not fit the image.
    """

    split: str
    num_images: int
    image_size: int = 160
    digit_sizes: tuple[int, int] = (14, 72)
    max_digits: int = 5
    seed: int = 0

    def __post_init__(self):
        if self.split not in SPLITS:
            raise UserError(f"split is {self.split!r}; it has to be one of {sorted(SPLITS)}")
        if self.num_images < 1 or self.max_digits < 1:
            raise UserError(f"num_images={self.num_images} and max_digits={self.max_digits} have to be at least 1")
        smallest, largest = self.digit_sizes
        if not 8 <= smallest <= largest <= self.image_size:
            raise UserError(
                f"digit_sizes={self.digit_sizes} has to be 8 <= smallest <= largest <= image_size={self.image_size}"
            )

    def draw(self, index: int) -> tuple[np.ndarray, np.ndarray, list[dict]]:
        """Draws one scene.

        Args:
            index: number of the image, from 0.

        Returns:
            The RGB image ``(H, W, 3)`` and the semantic mask ``(H, W)``, both uint8 (0 is the background, digit d is
            d + 1), and the instances as COCO annotations without ids.
        """
        rng = np.random.default_rng([self.seed, SPLITS[self.split], index])
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
            opacity = alpha[..., None] * rng.uniform(0.55, 1)
            image[window] = image[window] * (1 - opacity) + rng.uniform(0, 255, 3) * opacity
            semantic[window][alpha > 0.5] = digit + 1
            annotations.append(_annotate(alpha > 0.5, digit, place[:2]))
        image += rng.normal(0, rng.uniform(2, 12), image.shape)
        return image.clip(0, 255).round().astype(np.uint8), semantic, annotations

    def _draw_background(self, rng):
        photographs = _load_photographs()
        photograph = photographs[rng.integers(len(photographs))]
        side = rng.integers(min(100, self.image_size), min(photograph.size) + 1)
        left = rng.integers(photograph.width - side + 1)
        top = rng.integers(photograph.height - side + 1)
        box = (left, top, left + side, top + side)
        size = (self.image_size, self.image_size)
        image = np.asarray(photograph.resize(size, Image.Resampling.BILINEAR, box=box), np.float32)
        return image[:, ::-1].copy() if rng.random() < 0.5 else image.copy()

    def _draw_digit(self, rng):
        images, classes = _load_digits()
        own = range(TRAIN_DIGITS) if self.split == "train" else range(TRAIN_DIGITS, len(classes))
        chosen = own[rng.integers(len(own))]
        smallest, largest = self.digit_sizes
        size = int(round(smallest * (largest / smallest) ** rng.random()))
        enlarged = Image.fromarray(images[chosen]).resize((size, size), Image.Resampling.BICUBIC)
        return int(classes[chosen]), np.asarray(enlarged).clip(0, 1)

    def _place(self, rng, size, boxes, attempts=20):
        """Finds a box ``(x0, y0, x1, y1)`` that keeps clear of the others, or None if all attempts fail."""
        for _ in range(attempts):
            x, y = rng.integers(0, self.image_size - size + 1, 2).tolist()
            if all(x >= b[2] or b[0] >= x + size or y >= b[3] or b[1] >= y + size for b in boxes):
                return x, y, x + size, y + size
        return None

    def build(self, folder: str) -> None:
        """Writes images, semantic masks and ``annotations.json`` (COCO format) into a folder, whole or not at all.

        Args:
            folder: is created; if this very split is there already, nothing happens. Several processes may ask at once.

        Raises:
            UserError: if the folder holds a split that other arguments made.
        """
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with file_lock(folder):
            if os.path.isdir(folder):
                self._check(folder)
                return
            _check_sources()
            unfinished = folder + ".unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            self._write(unfinished)
            os.rename(unfinished, folder)

    def _check(self, folder):
        with open(os.path.join(folder, "annotations.json")) as f:
            found = json.load(f)["info"]["arguments"]
        wanted = json.loads(json.dumps(dataclasses.asdict(self)))
        if found != wanted:
            raise UserError(
                f"{folder} was made with {found}, but {wanted} is asked for: remove the folder, or point "
                "DETECTRON2_DATASETS to another one"
            )

    def _write(self, folder):
        for name in ("images", "semantic"):
            os.makedirs(os.path.join(folder, name))
        images, annotations = [], []
        for index in tqdm(range(self.num_images), f"Drawing {self.split} scenes", unit="image", disable=None):
            image, semantic, instances = self.draw(index)
            file_name = f"{index:06d}.png"
            cv2.imwrite(os.path.join(folder, "images", file_name), image[..., ::-1])
            cv2.imwrite(os.path.join(folder, "semantic", file_name), semantic)
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
    folder = os.path.join(os.getenv("DETECTRON2_DATASETS", "datasets"), name)
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
