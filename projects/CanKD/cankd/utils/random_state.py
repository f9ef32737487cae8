"""The random numbers that Detectron2's data loading and models draw from: those of torch, numpy and ``random``."""

import contextlib
import random
import struct
from collections.abc import Iterator, Mapping

import numpy as np
import torch

__all__ = ["preserved_random_state", "random_state", "set_random_state"]


def random_state() -> dict:
    """Returns the state of the three on the CPU, as bytes and numbers: a checkpoint that runs no code can hold it."""
    kind, keys, *rest = np.random.get_state()
    assert kind == "MT19937"  # whatever seeds it, np.random is of this kind
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (keys.tobytes(), *rest),
        "random": (version, struct.pack(f"{len(numbers)}I", *numbers), gauss),
    }


def set_random_state(state: Mapping) -> None:
    """Lets the three go on from a state.

    Args:
        state: as :func:`random_state` returns it.
    """
    torch.set_rng_state(torch.frombuffer(bytearray(state["torch"]), dtype=torch.uint8))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", np.frombuffer(keys, np.uint32), *rest))
    version, numbers, gauss = state["random"]
    random.setstate((version, struct.unpack(f"{len(numbers) // 4}I", numbers), gauss))


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Gives a context that draws as it likes; afterwards all go on as if it had not, on this process's GPU, too."""
    state = random_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
            yield
    finally:
        set_random_state(state)
