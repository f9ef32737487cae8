"""Image files that a user gives: which they are, and what is wrong with those that cannot be used."""

import contextlib
import logging
import os
from collections.abc import Iterator

from cankd.utils import UserError
from detectron2.utils.file_io import PathManager
from PIL import Image
from tqdm import tqdm

__all__ = [
    "IMAGE_SUFFIXES",
    "check_image",
    "check_sums",
    "is_image_name",
    "is_turned",
    "list_images",
    "naming_broken_image",
]

logger = logging.getLogger(__name__)

_EXIF_ORIENTATION = 0x0112
_LYING = (5, 6, 7, 8)  # orientations that swap width and height

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Of the files in a folder that are taken for images, in lower case."""


def is_image_name(name: str) -> bool:
    """Tells whether a file's name is that of an image, and not of a hidden file beside it, as macOS makes them."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def list_images(root: str) -> list[str]:
    """Returns the paths of all images in a folder and in those below it, sorted; none is opened.

    Files and folders whose names begin with a dot are left out.

    Args:
        root: of the folder.

    Raises:
        UserError: if there is no image. Of a folder that cannot be read a warning is logged.
    """
    files, seen = [], {os.path.realpath(root)}
    folders = os.walk(root, onerror=_warn_of_folder, followlinks=True)
    for folder, subfolders, names in tqdm(folders, f"Listing {root}", unit="folder", leave=False, disable=None):
        visible = {os.path.realpath(os.path.join(folder, n)): n for n in sorted(subfolders) if not n.startswith(".")}
        subfolders[:] = [name for place, name in visible.items() if place not in seen]  # a link may lead back
        seen |= visible.keys()
        files += [os.path.join(folder, name) for name in sorted(filter(is_image_name, names))]
    if not files:
        raise UserError(f"there is no image ({', '.join(IMAGE_SUFFIXES)}) in {root} or below it")
    return files


def _warn_of_folder(error):
    logger.warning("The folder %s is left out: %s", error.filename, error.strerror)


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
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image; it may be cut off ({error})") from error


def is_turned(image: Image.Image) -> bool:
    """Tells whether a camera's note swaps width and height when Detectron2 reads an image. It may read all of a PNG."""
    return image.getexif().get(_EXIF_ORIENTATION) in _LYING


def check_sums(path: str) -> None:
    """Finds bytes of a PNG that have changed: Detectron2 looks for its orientation, misses them, and goes on.

    Args:
        path: of a file.

    Raises:
        OSError, SyntaxError: if a checksum is wrong.
    """
    if os.fspath(path).lower().endswith(".png"):
        with Image.open(PathManager.get_local_path(path)) as image:
            image.verify()


def check_image(path: str, *, whole: bool = True, size: tuple[int, int] | None = None) -> None:
    """Makes sure that an image can be used.

    Args:
        path: of the file.
        whole: whether all pixels are read, and not the head of the file alone.
        size: width and height that it should have once it is turned as its camera noted; None for any.

    Raises:
        UserError: if it cannot be read, has more than 8 bits a channel, which Detectron2 would clip to white, or is of
            another size.
    """
    with naming_broken_image(path), Image.open(PathManager.get_local_path(path)) as image:
        if whole:
            image.load()
            check_sums(path)
        mode, found = image.mode, image.size
        if size and size[0] != size[1] and found in (size, size[::-1]) and is_turned(image):
            found = found[::-1]
    if mode.startswith(("I", "F")):
        raise UserError(f"{path} has pixels of mode {mode}: models take 8 bits a channel, so convert it first")
    if size and found != size:
        raise UserError("{} has {}×{} pixels, and its annotation says {}×{}".format(path, *found, *size))
