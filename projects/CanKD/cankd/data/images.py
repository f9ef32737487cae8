"""Image files that a user gives: which they are, and what is wrong with those that cannot be used."""

import contextlib
from collections.abc import Iterator

from cankd.utils import UserError
from detectron2.utils.file_io import PathManager
from PIL import Image

__all__ = ["IMAGE_SUFFIXES", "check_image", "naming_broken_image"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Of the files in a folder that are taken for images, in lower case."""


@contextlib.contextmanager
def naming_broken_image(path: str) -> Iterator[None]:
    """Makes an image that cannot be read a user's mistake that names its file.

    Args:
        path: of the image that is read within.

    Raises:
        UserError: if reading fails.
    """
    try:
        yield
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as an image; it may be cut off ({error})") from error


def check_image(path: str, *, whole: bool = True) -> None:
    """Makes sure that an image can be used.

    Args:
        path: of the file.
        whole: whether all pixels are read, and not the head of the file alone.

    Raises:
        UserError: if it cannot be read, or has more than 8 bits a channel: Detectron2 would clip these to white.
    """
    with naming_broken_image(path), Image.open(PathManager.get_local_path(path)) as image:
        if whole:
            image.load()
        mode = image.mode
    if mode.startswith(("I", "F")):
        raise UserError(f"{path} has pixels of mode {mode}: models take 8 bits a channel, so convert it first")
