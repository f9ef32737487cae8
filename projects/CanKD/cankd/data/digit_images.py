"""Real handwritten digits on real photographs, made from installed packages: what the embedded data sets share.

The 1,797 digits of scikit-learn are pasted, in any colour and at several opacities, on random crops of the photographs
that scikit-image and scikit-learn ship. Train and val use disjoint digits. Each image depends only on (seed, split,
index), so the same arguments give the same pixels.
"""

import dataclasses
import functools
import glob
import importlib.util
import json
import os
from typing import ClassVar

import cv2
import numpy as np
from cankd.utils import UserError, create_folder, remove_unfinished
from iopath.common.file_io import file_lock
from PIL import Image

__all__ = ["CLASSES", "DigitImages", "save_png"]

CLASSES = [str(digit) for digit in range(10)]
SPLITS = {"train": 0, "val": 1}
TRAIN_DIGITS = 1400  # of the 1,797; val has the rest


def _check_sources():
    for package, name in (("skimage", "scikit-image"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"the digits' images are drawn from pictures that {name} ships, and it is not installed: pip install "
                "'cankd[demo]', or pip install scikit-image scikit-learn"
            )


def save_png(path: str, image: np.ndarray) -> None:
    """Writes an image, grey or BGR, as OpenCV's ``imwrite`` does, which stays silent when the disk is full."""
    with open(path, "wb") as f:
        f.write(cv2.imencode(".png", image)[1])


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
class DigitImages:
    """One split of a data set of digits; a subclass says what an image shows, and writes them.

    Attributes:
        split: "train" or "val"; they share no digit.
        num_images: number of images.
        image_size: side of the square images, in pixels.
        digit_sizes: smallest and largest side of a digit's 8×8 grid once enlarged, in pixels.
        seed: of everything random.

    Raises:
        UserError: if the split is unknown or a size does not fit the image.
    """

    split: str
    num_images: int
    image_size: int
    digit_sizes: tuple[int, int]
    seed: int = 0

    info_file: ClassVar[str]
    """JSON file of the folder whose "info" has the arguments that it was made with."""

    def __post_init__(self):
        if self.split not in SPLITS:
            raise UserError(f"split is {self.split!r}; it has to be one of {sorted(SPLITS)}")
        if self.num_images < 1:
            raise UserError(f"num_images={self.num_images} has to be at least 1")
        smallest, largest = self.digit_sizes
        if not 8 <= smallest <= largest <= self.image_size:
            raise UserError(
                f"digit_sizes={self.digit_sizes} has to be 8 <= smallest <= largest <= image_size={self.image_size}"
            )

    def _random_numbers(self, index):
        return np.random.default_rng([self.seed, SPLITS[self.split], index])

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

    def _draw_digit(self, rng, digit=None):
        """Returns a digit, of any class or of a chosen one, and where it covers its background, in [0, 1]."""
        images, classes = _load_digits()
        own = range(TRAIN_DIGITS) if self.split == "train" else range(TRAIN_DIGITS, len(classes))
        if digit is not None:
            own = [i for i in own if classes[i] == digit]
        chosen = own[rng.integers(len(own))]
        smallest, largest = self.digit_sizes
        size = int(round(smallest * (largest / smallest) ** rng.random()))
        enlarged = Image.fromarray(images[chosen]).resize((size, size), Image.Resampling.BICUBIC)
        return int(classes[chosen]), np.asarray(enlarged).clip(0, 1)

    def _paste(self, rng, image, window, alpha, opacities):
        """Paints a digit in a random colour and at a random opacity."""
        opacity = alpha[..., None] * rng.uniform(*opacities)
        image[window] = image[window] * (1 - opacity) + rng.uniform(0, 255, 3) * opacity

    def build(self, folder: str) -> None:
        """Writes the images and what is known of them into a folder, whole or not at all.

        Args:
            folder: is created; if this very split is there already, nothing happens. Several processes may ask at once.

        Raises:
            UserError: if the folder holds a split that other arguments made, or the disk is full.
        """
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with file_lock(folder):
            if os.path.isdir(folder):
                self._check(folder)
                return
            _check_sources()
            remove_unfinished(glob.escape(folder))
            with create_folder(folder) as unfinished:
                self._write(unfinished)

    def _check(self, folder):
        with open(os.path.join(folder, self.info_file)) as f:
            found = json.load(f)["info"]["arguments"]
        wanted = json.loads(json.dumps(dataclasses.asdict(self)))
        if found != wanted:
            raise UserError(
                f"{folder} was made with {found}, but {wanted} is asked for: remove the folder, or point "
                "DETECTRON2_DATASETS to another one"
            )

    def _write(self, folder):
        """Fills a folder that is there."""
        raise NotImplementedError
