"""The corruptions of COCO-C (Michaelis et al. 2019), with pixels that nothing but image, kind and severity decides."""

import copy
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import detectron2.data.transforms as T
import numpy as np
from cankd.utils import UserError, orders_differ, preserved_random_state
from torch.utils.data import Dataset

from .file_naming_mapper import FileNamingMapper

__all__ = [
    "CORRUPTION_GROUPS",
    "MIN_SIDE",
    "SEVERITIES",
    "Cell",
    "CorruptedDataset",
    "choose_cells",
    "compile_corruptions",
    "corrupt",
    "image_id_of",
]

CORRUPTION_GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),  # not of the benchmark
}
SEVERITIES = range(6)  # 0 is the clean image
_BENCHMARK = [name for group, names in CORRUPTION_GROUPS.items() if group != "extra" for name in names]
_SETS = {"benchmark": _BENCHMARK, "all": [*_BENCHMARK, *CORRUPTION_GROUPS["extra"]], **CORRUPTION_GROUPS}
_LIBRARY = "imagecorruptions-imaug"
MIN_SIDE = 32  # pixels; smaller images cannot be corrupted


class Cell(NamedTuple):
    """One field of the grid of corruptions and severities. The clean image is ``Cell("clean", 0)``."""

    corruption: str
    severity: int

    def __str__(self) -> str:
        return f"{self.corruption}_{self.severity}" if self.severity else self.corruption


def choose_cells(corruptions: str = "benchmark", severities: Iterable[int] = SEVERITIES) -> list[Cell]:
    """Returns the cells of a grid, the clean images first.

    Args:
        corruptions: names of corruptions or of sets of them ("benchmark", "all", or a group), separated by commas.
        severities: 0 adds the clean images.

    Raises:
        UserError: if a name or a severity is unknown; it lists the known ones.
    """
    words = [word.strip() for word in corruptions.split(",")]
    if unknown := [word for word in words if word not in _SETS and word not in _SETS["all"]]:
        raise UserError(
            f"{', '.join(map(repr, unknown))} is no corruption. Known are the sets {', '.join(_SETS)} and the "
            f"corruptions {', '.join(_SETS['all'])}"
        )
    severities = sorted(set(severities))
    if not severities or not set(severities) <= set(SEVERITIES):
        raise UserError(f"severities are {severities}; they have to be among {list(SEVERITIES)}, where 0 is clean")
    names = dict.fromkeys(name for word in words for name in _SETS.get(word, [word]))
    cells = [Cell("clean", 0)] if severities[0] == 0 else []
    return cells + [Cell(name, severity) for name in names for severity in severities if severity > 0]


def corrupt(image: np.ndarray, cell: Cell, image_id: Any) -> np.ndarray:
    """Corrupts an image. The same image id and cell give the same pixels, whatever was drawn before.

    Args:
        image: uint8, ``(H, W, 3)``, at least 32 pixels high and wide. The library means RGB.
        cell: what to do; severity 0 returns the image itself.
        image_id: a number or a name.

    Returns:
        Of the same shape and type.
    """
    if cell.severity == 0:
        return image
    library = _import_library()
    digest = hashlib.sha256(f"{image_id}/{cell.corruption}/{cell.severity}".encode()).digest()
    seed = int.from_bytes(digest[:4], "little")
    # These two ask the operating system for entropy unless they get a seed; the others draw from NumPy's global state.
    seeded = {"seed": seed} if cell.corruption in ("impulse_noise", "glass_blur") else {}
    with preserved_random_state():
        np.random.seed(seed)
        return library.corrupt(image, severity=cell.severity, corruption_name=cell.corruption, **seeded)


def compile_corruptions(cells: Iterable[Cell]) -> str:
    """Imports and compiles what cells need, so that each process that is forked later does not have to.

    Returns:
        The version of the library that corrupts; "" if it is neither there nor needed.

    Raises:
        UserError: if imagecorruptions-imaug is not installed.
    """
    for name in {cell.corruption for cell in cells if cell.severity}:
        corrupt(np.zeros((MIN_SIDE, MIN_SIDE, 3), dtype=np.uint8), Cell(name, 1), 0)
    try:
        return importlib.metadata.version(_LIBRARY)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _import_library():
    try:
        importlib.metadata.version(_LIBRARY)  # the original package has the same modules, and fails on NumPy 2
        import imagecorruptions
    except ImportError as error:
        raise UserError(
            f"corruptions need {_LIBRARY} and numba ({error}): pip install numba scipy, then pip install --no-deps "
            f"{_LIBRARY}==1.1.5 (with its dependencies it would install a second OpenCV)"
        ) from error
    return imagecorruptions


class CorruptedDataset(Dataset):
    """A data set's mapped records, cell by cell: record ``i`` of cell ``c`` is item ``c × number of records + i``."""

    def __init__(self, records: Sequence[dict], mapper: Callable, cells: Sequence[Cell], *, channel_order: str = "RGB"):
        """
        Args:
            records: in Detectron2's format.
            mapper: a :class:`detectron2.data.DatasetMapper`, or what works alike: reads an image in its
                ``image_format``, then applies its ``augmentations``. It stays as it is.
            cells: how each record is corrupted in turn, after it was read and before anything else.
            channel_order: of the images while they are corrupted; "BGR" is for comparing with figures made in that way.

        Raises:
            UserError: if the mapper is of another kind, or the channel order is unknown.
        """
        if channel_order not in ("RGB", "BGR"):
            raise UserError(f"the channel order is {channel_order!r}; it has to be RGB or BGR")
        image_format = getattr(mapper, "image_format", None)
        if not isinstance(getattr(mapper, "augmentations", None), T.AugmentationList) or image_format not in (
            "BGR",
            "RGB",
        ):
            raise UserError(
                f"images are corrupted between a mapper's reading and its augmentations, but {type(mapper).__name__} "
                "has no augmentations, or no image_format that is BGR or RGB: use detectron2.data.DatasetMapper"
            )
        self._records = records
        self._cells = cells
        self._corruption = _Corruption(reverse=orders_differ(image_format, channel_order))
        corrupting = copy.copy(mapper)
        corrupting.augmentations = T.AugmentationList([self._corruption, *mapper.augmentations.augs])
        self._mapper = FileNamingMapper(corrupting)

    def __len__(self) -> int:
        return len(self._cells) * len(self._records)

    def __getitem__(self, index: int) -> dict:
        cell, i = divmod(index, len(self._records))
        record = self._records[i]
        self._corruption.target = self._cells[cell], image_id_of(record)
        return self._mapper(record)


class _Corruption(T.Augmentation):
    """Corrupts the image for the ``target``, a cell and an image id, that was set before."""

    def __init__(self, *, reverse: bool):
        super().__init__()
        self.step = -1 if reverse else 1
        self.target = None

    def __call__(self, aug_input: T.AugInput) -> T.Transform:
        image = np.ascontiguousarray(aug_input.image[..., :: self.step])
        aug_input.image = np.ascontiguousarray(corrupt(image, *self.target)[..., :: self.step])
        return T.NoOpTransform()


def image_id_of(record: dict) -> Any:
    """Returns what names a record's image on every machine: its id, or where there is none the end of its path.

    That is the file's name, and where folders are classes also that of the folder.
    """
    if "image_id" in record:
        return record["image_id"]
    return "/".join(record["file_name"].split("/")[-2 if "label" in record else -1 :])
