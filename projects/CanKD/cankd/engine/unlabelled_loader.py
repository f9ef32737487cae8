import operator
from collections.abc import Iterable, Iterator, Mapping

from cankd.data import ResumableLoader
from cankd.utils import RandomNumbers

__all__ = ["MixedLoader", "UnlabelledLoader"]


class UnlabelledLoader:
    """Batches that draw from random numbers of their own."""

    def __init__(self, loader: ResumableLoader, random_numbers: RandomNumbers):
        """
        Args:
            loader: gives the batches.
            random_numbers: from which it draws.
        """
        self._loader = loader
        self._random_numbers = random_numbers
        self._restored: Mapping | None = None

    def __iter__(self) -> Iterator[list[dict]]:
        """Returns the batches, without end. Workers start, and draw their seed, at once."""
        with self._random_numbers:
            batches = iter(self._loader)
        if self._restored is not None:
            self._random_numbers.load_state_dict(self._restored)
        return self._draw(batches)

    def _draw(self, batches):
        while True:
            with self._random_numbers:
                batch = next(batches)
            yield batch

    def state_dict(self) -> dict:
        """See :meth:`ResumableLoader.state_dict`."""
        return {"loader": self._loader.state_dict(), "random_numbers": self._random_numbers.state_dict()}

    def load_state_dict(self, state: Mapping) -> list[str]:
        """See :meth:`ResumableLoader.load_state_dict`."""
        differences = self._loader.load_state_dict(state["loader"])
        self._restored = None if differences else state["random_numbers"]
        return differences


class MixedLoader:
    """The batches of two loaders, each pair as one."""

    def __init__(self, labelled: Iterable[list], unlabelled: Iterable[list]):
        """
        Args:
            labelled, unlabelled: the loaders.
        """
        self._labelled = labelled
        self._unlabelled = unlabelled

    def __iter__(self) -> Iterator[list]:
        """Returns the batches, those of the first loader in front. Workers start at once."""
        return map(operator.add, self._labelled, self._unlabelled)
