import pytest
import torch
from detectron2.utils.env import seed_all_rng


@pytest.fixture(autouse=True)
def seed():
    seed_all_rng(0)


@pytest.fixture(autouse=True)
def default_dtype():
    yield
    torch.set_default_dtype(torch.float32)
