import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from cankd.utils import preserved_random_state, random_state, set_random_state
from detectron2.data.build import worker_init_reset_seed
from detectron2.data.common import AspectRatioGroupedDataset, ToIterableDataset
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

__all__ = ["ResumableLoader"]

_ORIGIN = "cankd_origin"  # entry of a record on its way to its batch: its index, and the random state before it
_DRAWN_AT_CONSTRUCTION = ("_seed", "_indexes_subset")  # of Detectron2's samplers


class ResumableLoader:
    """Detectron2's loader for training, its batches unchanged, whose place in the data can be saved and restored.

    Workers read ahead of what is trained on. So each sends its random state with what it has read, and after a resume
    it draws again what was read but not trained on. Results come from the workers in turn: how many there were says
    whose turn it is. Images that wait for others of their aspect ratio are read again, each from its own random state.
    Without workers the random numbers are those of the process, which restores them itself.
    """

    def __init__(self, loader: Iterable):
        """
        Args:
            loader: for which :meth:`supports` is true. It is changed, and only this object may use it from now on.
        """
        self._group_size = loader.batch_size if isinstance(loader, AspectRatioGroupedDataset) else None
        self._loader = _inner(loader)
        self._source = self._loader.dataset
        self._sampler = self._source.sampler
        self._layout = {
            "processes": comm.get_world_size(),
            "workers": self._loader.num_workers,
            "batch_size": self._source.shard_chunk_size,
            "aspect_ratio_grouping": self._group_size is not None,
            "images": len(self._source.dataset),
        }
        self._place = _Place(images_per_result=self._loader.batch_size or 1)
        self._waiting: list[dict] = []
        self._source.sampler = _ContinuedSampler(self._sampler, self._source.shard_chunk_size, self._place)
        self._source.shard_sampler = False
        if self._group_size:
            self._source.dataset = _WithOrigin(self._source.dataset)
        self._loader.collate_fn = _WithState(self._loader.collate_fn)

    @staticmethod
    def supports(loader: Iterable) -> bool:
        """Tells whether a loader is one of Detectron2's for training, with a sampler of Detectron2's."""
        source = getattr(_inner(loader), "dataset", None)
        return (
            isinstance(_inner(loader), DataLoader)
            and isinstance(source, ToIterableDataset)
            and source.shard_sampler
            and isinstance(source.sampler, (TrainingSampler, RepeatFactorTrainingSampler))
        )

    def __iter__(self) -> Iterator[list]:
        """Returns the batches, without end. The workers start, and draw their seed, at once."""
        results = self._count(iter(self._loader))
        if not self._group_size:
            return results
        waiting, self._waiting = self._waiting, []
        records = self._note(itertools.chain(waiting, results))
        return self._deliver(AspectRatioGroupedDataset(records, self._group_size))

    def _count(self, results):
        """Keeps account of what comes from the workers."""
        for result, seed, state in results:
            self._place.advance(seed, state, max(1, self._loader.num_workers))
            yield result

    def _note(self, records):
        """Keeps account of what waits for others of its aspect ratio."""
        for record in records:
            self._waiting.append(record)
            yield record

    def _deliver(self, batches):
        for batch in batches:
            delivered = set(map(id, batch))
            self._waiting = [record for record in self._waiting if id(record) not in delivered]
            yield [{key: value for key, value in record.items() if key != _ORIGIN} for record in batch]

    def state_dict(self) -> dict:
        """Returns the place behind the batches that have been taken, in tensors, numbers, bytes and containers."""
        return {
            "layout": self._layout,
            "place": dataclasses.asdict(self._place),
            "sampler": {name: vars(self._sampler)[name] for name in self._drawn_by_the_sampler()},
            "waiting": [record[_ORIGIN] for record in self._waiting],
        }

    def load_state_dict(self, state: Mapping) -> list[str]:
        """Continues behind the batches of another loader. To be called before the first batch.

        Args:
            state: of :meth:`state_dict`.

        Returns:
            In what the two loaders differ, for messages. If it is anything, the same order of images goes on at about
            the same place, or another order if the number of images differs.
        """
        old, new = state["layout"], self._layout
        if old["images"] == new["images"]:
            vars(self._sampler).update(state["sampler"])
        place = _Place(**state["place"])
        if old == new:
            vars(self._place).update(vars(place))
            with preserved_random_state():
                self._waiting = [self._read_again(*origin) for origin in state["waiting"]]
        else:
            self._place.skipped = place.images * old["processes"] // new["processes"]
        return [f"{key}={new[key]} instead of {old[key]}" for key in new if new[key] != old[key]]

    def _drawn_by_the_sampler(self):
        return [name for name in _DRAWN_AT_CONSTRUCTION if name in vars(self._sampler)]

    def _read_again(self, index, state):
        set_random_state(state)
        return self._source.dataset[index]


def _inner(loader):
    return loader.dataset if isinstance(loader, AspectRatioGroupedDataset) else loader


@dataclasses.dataclass
class _Place:
    """A process's place in the order of its data.

    Attributes:
        images_per_result: of each of the results that workers, or this process, give in turn.
        skipped: images of this process before the first result.
        results: number of those that have been taken.
        seed: of the first worker.
        states: by worker, the random state behind its last result that has been taken; none without workers.
    """

    images_per_result: int
    skipped: int = 0
    results: int = 0
    seed: int | None = None
    states: dict[int, dict] = dataclasses.field(default_factory=dict)

    @property
    def images(self) -> int:
        return self.skipped + self.results * self.images_per_result

    def advance(self, seed, state, workers):
        if state is not None:
            self.seed = seed if self.seed is None else self.seed  # workers of which nothing came keep the first
            self.states[self.results % workers] = state
        self.results += 1

    def images_of(self, worker, workers):
        """Returns how many images of a worker have been taken."""
        rounds, turn = divmod(self.results, workers)
        return (rounds + (worker < turn)) * self.images_per_result

    def restore(self, worker):
        """Lets this process, a worker, go on with another's random numbers."""
        if worker in self.states:
            set_random_state(self.states[worker])
        elif self.seed is not None:  # nothing of it had been taken: it begins as Detectron2 lets it
            torch.manual_seed(self.seed + worker)
            worker_init_reset_seed(worker)


class _ContinuedSampler(Sampler):
    """The indices of a worker from a place on, distributed as :class:`ToIterableDataset` does it."""

    def __init__(self, sampler, chunk_size, place):
        self._sampler, self._chunk_size, self._place = sampler, chunk_size, place

    def __iter__(self):
        info = get_worker_info()
        worker, workers = 0, 1
        if info is not None:  # the first worker takes the place of the one whose turn it is
            worker, workers = (info.id + self._place.results) % info.num_workers, info.num_workers
            self._place.restore(worker)
        yield from itertools.islice(self._share(worker, workers), self._place.images_of(worker, workers), None)

    def _share(self, worker, workers):
        """Yields every so many-th chunk of indices."""
        indices = itertools.islice(self._sampler, self._place.skipped, None)
        own = slice(worker * self._chunk_size, (worker + 1) * self._chunk_size)
        while indices_of_all := list(itertools.islice(indices, workers * self._chunk_size)):
            yield from indices_of_all[own]


class _WithOrigin(Dataset):
    """Records that can be drawn again."""

    def __init__(self, dataset):
        self._dataset = dataset

    def __getitem__(self, index):
        origin = index, random_state()
        return {**self._dataset[index], _ORIGIN: origin}


class _WithState:
    """Gives a result with the seed of the first worker and this worker's random state, both None without workers."""

    def __init__(self, collate: Callable):
        self._collate = collate

    def __call__(self, records):
        result, info = self._collate(records), get_worker_info()
        return (result, None, None) if info is None else (result, info.seed - info.id, random_state())
