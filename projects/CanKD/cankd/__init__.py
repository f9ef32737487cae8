"""CanKD on Detectron2: cross-attention-based feature distillation for detection and segmentation (WACV 2026)."""

import warnings

# Detectron2 of 2024 makes newer libraries warn on each start; nobody who runs it can act on that.
for message in (".*torch.jit.script", "pkg_resources is deprecated", "torch.meshgrid"):
    warnings.filterwarnings("ignore", message)

try:
    import detectron2  # noqa: F401
    import torch  # noqa: F401
    import torchvision  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"cankd needs PyTorch, torchvision and Detectron2, and {error.name!r} cannot be imported. Run `make setup` in "
        "the cankd repository for a ready environment in .venv, or install them as "
        "https://detectron2.readthedocs.io/en/latest/tutorials/install.html says."
    ) from error

__version__ = "0.1.0"
