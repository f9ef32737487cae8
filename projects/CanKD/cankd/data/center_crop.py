import detectron2.data.transforms as T
import numpy as np
from cankd.utils import UserError

__all__ = ["CenterCrop"]


class CenterCrop(T.Augmentation):
    """Crops a square from the middle of the image, at the pixel where torchvision's ``CenterCrop`` does."""

    def __init__(self, *, size: int):
        """
        Args:
            size: side of the square, in pixels.
        """
        super().__init__()
        self.size = size

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """See :class:`detectron2.data.transforms.Augmentation`.

        Raises:
            UserError: if the image is smaller.
        """
        height, width = image.shape[:2]
        if min(height, width) < self.size:
            raise UserError(f"an image of {height}×{width} has no square of {self.size} pixels: enlarge it before")
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return T.CropTransform(left, top, self.size, self.size, width, height)
