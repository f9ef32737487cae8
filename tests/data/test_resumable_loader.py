import itertools
import random

import numpy as np
import pytest
import torch
from cankd.data import ResumableLoader
from cankd.utils import random_state, set_random_state
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

BATCHES = 8


def draw(record):
    """A mapper that draws from all three."""
    return {**record, "image": torch.tensor([np.random.rand(), random.random(), torch.rand(1).item()])}


def build(workers=0, grouping=False, images=23, sampler=None, batch_size=3):
    """Builds Detectron2's loader of images of which every third is wide."""
    records = [{"file_name": str(i), "width": 1 + (i % 3 == 0), "height": 1} for i in range(images)]
    return build_detection_train_loader(
        records,
        mapper=draw,
        sampler=sampler,
        total_batch_size=batch_size,
        aspect_ratio_grouping=grouping,
        num_workers=workers,
    )


def read(batch):
    assert all(record.keys() == {"file_name", "width", "height", "image"} for record in batch)
    return [(record["file_name"], record["image"].tolist()) for record in batch]


def names(batch):
    return [record["file_name"] for record in batch]


@pytest.mark.parametrize("grouping", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_batches_are_detectron2s_and_go_on_where_they_were(tmp_path, workers, grouping):
    seed_all_rng(1)
    plain = [read(batch) for batch in itertools.islice(build(workers, grouping), BATCHES)]
    seed_all_rng(1)
    loader = ResumableLoader(build(workers, grouping))
    batches, states = iter(loader), []
    for expected in plain:
        assert read(next(batches)) == expected
        states.append((loader.state_dict(), random_state()))
    for taken in (1, 2, 5):  # with three workers, before all have given something, and in the midst of a round
        torch.save(states[taken - 1], tmp_path / "state.pth")
        place, numbers = torch.load(tmp_path / "state.pth", weights_only=True)
        seed_all_rng(2)  # another order and other random numbers, but for what is restored
        resumed = ResumableLoader(build(workers, grouping))
        assert resumed.load_state_dict(place) == []
        batches = iter(resumed)
        set_random_state(numbers)
        again = [read(batch) for batch in itertools.islice(batches, BATCHES - taken)]
        assert again == plain[taken:]
        assert resumed.state_dict()["place"]["results"] == states[-1][0]["place"]["results"]


@pytest.mark.parametrize("kind", ["repeat", "subset"])
def test_other_samplers(kind):
    def sampler():
        if kind == "repeat":
            return RepeatFactorTrainingSampler(torch.linspace(0.5, 2, 23))
        return RandomSubsetTrainingSampler(23, 0.5)

    seed_all_rng(1)
    loader = ResumableLoader(build(sampler=sampler()))
    batches = iter(loader)
    next(batches)
    place, expected = loader.state_dict(), [names(next(batches)) for _ in range(BATCHES)]
    seed_all_rng(2)
    resumed = ResumableLoader(build(sampler=sampler()))
    resumed.load_state_dict(place)
    assert [names(batch) for batch in itertools.islice(resumed, BATCHES)] == expected


def test_another_layout_goes_on_in_the_same_order_and_names_what_differs(monkeypatch):
    seed_all_rng(1)
    loader = ResumableLoader(build(workers=0, batch_size=2))
    stream = (name for batch in iter(loader) for name in names(batch))
    taken, place = [next(stream) for _ in range(6)], loader.state_dict()
    expected = [next(stream) for _ in range(24)]
    assert len(set(taken)) == 6

    other = ResumableLoader(build(workers=1, batch_size=4))
    differences = other.load_state_dict(place)
    assert differences == ["workers=1 instead of 0", "batch_size=4 instead of 2"]
    batches = iter(other)
    assert names(next(batches)) + names(next(batches)) == expected[:8]
    place = other.state_dict()  # and on from there
    again = ResumableLoader(build(workers=1, batch_size=4))
    assert again.load_state_dict(place) == []
    assert names(next(iter(again))) == expected[8:12]

    monkeypatch.setattr(comm, "get_world_size", lambda: 2)  # 14 images have been read, 7 a process
    monkeypatch.setattr("detectron2.data.samplers.distributed_sampler.comm.get_world_size", lambda: 2)
    second = ResumableLoader(build(batch_size=2, sampler=TrainingSampler(23, seed=0)))
    assert second.load_state_dict(place) == [
        "processes=2 instead of 1",
        "workers=0 instead of 1",
        "batch_size=2 instead of 4",
    ]
    assert names(next(iter(second))) == expected[8:12:2]


def test_other_images_begin_another_order():
    loader = ResumableLoader(build())
    next(iter(loader))
    other = ResumableLoader(build(images=5))
    assert other.load_state_dict(loader.state_dict()) == ["images=5 instead of 23"]
    assert len(next(iter(other))) == 3


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return itertools.repeat({})


def test_knows_what_it_cannot_continue():
    assert ResumableLoader.supports(build()) and ResumableLoader.supports(build(grouping=True))
    others = torch.utils.data.DataLoader([1]), torch.utils.data.DataLoader(Endless()), [[{}]]
    assert not any(map(ResumableLoader.supports, others))
    own = build(sampler=torch.utils.data.SequentialSampler(range(23)))
    assert not ResumableLoader.supports(own)
