from collections.abc import Mapping
from typing import Any

from detectron2.utils.registry import locate

__all__ = ["target_of"]


def target_of(lazy_call: Mapping) -> Any:
    """Returns the class or function that a lazy call would call, which a config may name by its path.

    Args:
        lazy_call: with "_target_"; anything else has no target, None.
    """
    target = lazy_call.get("_target_") if isinstance(lazy_call, Mapping) else None
    return locate(target) if isinstance(target, str) else target
