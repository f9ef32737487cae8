"""Digit Patches, the embedded data set for classification: one digit in the middle of a photograph's noisy crop."""

import dataclasses
import json
import os
from typing import ClassVar

import numpy as np
from cankd.utils import UserError
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from .digit_images import CLASSES, DigitImages, save_png
from .image_folders import load_image_folder
from .registration import dataset_root

__all__ = ["DigitPatches", "register_digit_patches"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitPatches(DigitImages):
    """One split of Digit Patches; each digit is on as many images.

    Attributes:
        opacities: smallest and largest of a digit, from 0 to 1.
        noise: smallest and largest standard deviation of an image's normal noise, in grey values.

    Raises:
        UserError: if an argument is impossible.
    """

    image_size: int = 112
    digit_sizes: tuple[int, int] = (48, 96)
    opacities: tuple[float, float] = (0.5, 1)
    noise: tuple[float, float] = (10, 40)

    info_file: ClassVar[str] = "info.json"

    def __post_init__(self):
        super().__post_init__()
        if self.num_images < len(CLASSES):
            raise UserError(f"num_images={self.num_images} has to be at least {len(CLASSES)}, one a class")

    def draw(self, index: int) -> tuple[np.ndarray, int]:
        """Draws one patch.

        Args:
            index: number of the image, from 0; its last figure is the digit.

        Returns:
            The RGB image ``(H, W, 3)``, uint8, and the digit.
        """
        rng = self._random_numbers(index)
        image = self._draw_background(rng)
        digit, alpha = self._draw_digit(rng, index % len(CLASSES))
        start = (self.image_size - len(alpha)) // 2
        side = slice(start, start + len(alpha))
        self._paste(rng, image, (side, side), alpha, self.opacities)
        image += rng.normal(0, rng.uniform(*self.noise), image.shape)
        return image.clip(0, 255).round().astype(np.uint8), digit

    def _write(self, folder):
        for name in CLASSES:
            os.makedirs(os.path.join(folder, name))
        for index in tqdm(range(self.num_images), f"Drawing {self.split} patches", unit="image", disable=None):
            image, digit = self.draw(index)
            save_png(os.path.join(folder, CLASSES[digit], f"{index:06d}.png"), image[..., ::-1])
        with open(os.path.join(folder, self.info_file), "w") as f:
            json.dump({"info": {"description": "Digit Patches", "arguments": dataclasses.asdict(self)}}, f)


def register_digit_patches(name: str, patches: DigitPatches) -> None:
    """Registers a split in Detectron2's catalogs. It is drawn on first use, in ``$DETECTRON2_DATASETS/<name>``.

    Args:
        name: data set name, for example "digit_patches_train"; also that of the folder, which has one a class.
        patches: what to draw.
    """
    folder = os.path.join(dataset_root(), name)

    def load():
        patches.build(folder)
        return load_image_folder(folder)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(evaluator_type="classification", image_classes=CLASSES)
