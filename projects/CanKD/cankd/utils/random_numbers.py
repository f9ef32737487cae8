import contextlib
import random
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch

from .random_state import preserved_random_state, random_state, set_random_state

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
        with preserved_random_state():
            np.random.seed(seed)
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            self._state = random_state()

    def __enter__(self) -> Self:
        self._swap()
        return self

    def __exit__(self, *error) -> None:
        self._swap()

    def _swap(self):
        state, self._state = self._state, random_state()
        set_random_state(state)

    def state_dict(self) -> Mapping:
        """Returns where the sequence is. To be called outside of the context, as is :meth:`load_state_dict`."""
        return self._state

    def load_state_dict(self, state: Mapping) -> None:
        """Goes on from a state.

        Args:
            state: of :meth:`state_dict`.
        """
        self._state = state
