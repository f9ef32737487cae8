import detectron2.data.transforms as T
import numpy as np
import torch
from torchvision.transforms import RandomResizedCrop as _Published

__all__ = ["RandomResizedCrop"]


class RandomResizedCrop(T.Augmentation):
    """Crops a random part of the image and scales it to a fixed size (Szegedy et al. 2015), as torchvision's does."""

    def __init__(
        self, *, size: int, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
    ):
        """
        Args:
            size: side of the result, in pixels.
            scale: smallest and largest area of the part, as a share of the image's.
            ratio: smallest and largest width over height of the part; drawn log-uniformly.
        """
        super().__init__()
        self.size = size
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """See :class:`detectron2.data.transforms.Augmentation`."""
        like = torch.empty(1, *image.shape[:2], device="meta")  # all that is asked of it is its size
        top, left, height, width = _Published.get_params(like, self.scale, self.ratio)
        crop = T.CropTransform(left, top, width, height, image.shape[1], image.shape[0])
        return T.TransformList([crop, T.ResizeTransform(height, width, self.size, self.size)])
