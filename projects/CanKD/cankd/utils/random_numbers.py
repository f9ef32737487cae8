import contextlib
import random
from typing import Self

import numpy as np
import torch

__all__ = ["RandomNumbers"]


class RandomNumbers(contextlib.AbstractContextManager):
    """Random numbers beside everybody else's: of numpy, ``random`` and, on the CPU, torch.

    Within the context, which may be entered again and again, the three draw from a sequence of its own; outside they
    go on as if nothing had been drawn.
    """

    def __init__(self, seed: int):
        """
        Args:
            seed: of the sequence.
        """
        torchs = torch.Generator().manual_seed(seed).get_state()
        self._states = np.random.RandomState(seed).get_state(), random.Random(seed).getstate(), torchs

    def __enter__(self) -> Self:
        self._swap()
        return self

    def __exit__(self, *error) -> None:
        self._swap()

    def _swap(self):
        states = self._states
        self._states = np.random.get_state(), random.getstate(), torch.get_rng_state()
        np.random.set_state(states[0])
        random.setstate(states[1])
        torch.set_rng_state(states[2])
