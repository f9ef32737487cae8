import pytest
from reliability.full_disks import mount_small_disk, try_full_disk
from reliability.outcomes import Outcome


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    with mount_small_disk(folder) as problem:
        if problem:
            pytest.skip(problem)
        yield folder


@pytest.mark.parametrize("writer", ["training", "evaluation", "weights (.safetensors)"])
def test_nothing_is_lost(sound, disk, writer):
    outcome, message = try_full_disk(writer, 0, sound, disk)
    assert outcome == Outcome.CLEAR and "the disk at" in message
