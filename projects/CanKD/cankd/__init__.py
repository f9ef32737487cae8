"""CanKD on Detectron2: cross-attention-based feature distillation for detection and segmentation (WACV 2026)."""

try:
    import cv2  # noqa: F401
    import detectron2  # noqa: F401
    import torch
    import torchvision  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"cankd needs PyTorch, torchvision, OpenCV and Detectron2, and {error.name!r} cannot be imported. Run `make "
        "setup` in the cankd repository for a ready environment in .venv, or install them as "
        "https://detectron2.readthedocs.io/en/latest/tutorials/install.html says."
    ) from error

if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
    raise ImportError(
        f"cankd needs PyTorch 2.6 or newer, and {torch.__version__} is installed (tried are 2.11 and 2.14)."
    )

__version__ = "0.1.0"


def __getattr__(name):
    if name == "distill":  # what it needs takes seconds to import
        from cankd.engine import distill

        return distill
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
