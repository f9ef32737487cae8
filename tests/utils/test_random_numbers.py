import random

import numpy as np
import torch
from cankd.utils import RandomNumbers


def draw():
    return np.random.rand(), random.random(), torch.rand(1).item()


def test_others_draw_as_if_it_were_not_there():
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = [draw(), draw()]
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    numbers = RandomNumbers(5)
    found = []
    for _ in range(2):
        with numbers:
            draw()
        found.append(draw())
    assert found == expected


def test_its_own_sequence_goes_on_and_depends_on_the_seed_alone():
    sequences = []
    for seed in (5, 5, 6):
        draw()
        numbers, drawn = RandomNumbers(seed), []
        for _ in range(3):
            with numbers:
                drawn += draw()
            draw()
        sequences.append(drawn)
    assert sequences[0] == sequences[1] and len(set(sequences[0])) == 9
    assert not set(sequences[0]) & set(sequences[2])
