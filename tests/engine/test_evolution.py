import itertools

import pytest
from cankd.engine.evolution import Evolution

SPACE = [range(6)] * 5


def search(evolution, fitness, budget):
    scores = {}
    while len(scores) < budget and (genome := evolution.propose(scores)) is not None:
        scores[genome] = fitness(genome)
    return scores


def everything(genome):
    return True


def test_finds_better_genomes_than_random_draws():
    """The score is the genome's sum, and the best of 7,776 genomes has 25."""
    best = {
        evolves: [
            max(search(Evolution(space=SPACE, is_valid=everything, evolves=evolves, seed=seed), sum, 80).values())
            for seed in range(10)
        ]
        for evolves in (True, False)
    }
    assert sum(best[True]) / 10 > 23.5 > sum(best[False]) / 10


def test_first_draws_are_those_of_a_random_search():
    ways = [list(search(Evolution(space=SPACE, is_valid=everything, evolves=e), sum, 20)) for e in (True, False)]
    assert ways[0][:8] == ways[1][:8] and ways[0] != ways[1]


def test_initial_genomes_come_first_if_they_are_valid():
    initial = [(5,) * 5, (4,) * 5, (5,) * 5, (3,) * 5]
    evolution = Evolution(space=SPACE, is_valid=lambda genome: genome[0] != 4, initial=initial)
    assert list(search(evolution, sum, 3))[:2] == [(5,) * 5, (3,) * 5]


@pytest.mark.parametrize("arguments", [{"population": 1}, {"tournament": 0}])
def test_refuses_sizes(arguments):
    with pytest.raises(ValueError, match="it needs 2 and 1 at least"):
        Evolution(space=SPACE, is_valid=everything, **arguments)


def test_repeats_its_way_and_no_genome():
    ways = [list(search(Evolution(space=SPACE, is_valid=everything, seed=seed), sum, 50)) for seed in (0, 0, 1)]
    assert ways[0] == ways[1] != ways[2]
    assert len(set(ways[0])) == 50


@pytest.mark.parametrize("evolves", [True, False])
def test_searches_through_a_small_space_and_stops(evolves):
    """All that is valid, half of it, is proposed."""
    space = [range(3), range(4)]
    evolution = Evolution(space=space, is_valid=lambda genome: sum(genome) % 2 == 0, evolves=evolves, population=2)
    scores = search(evolution, sum, 100)
    assert set(scores) == {genome for genome in itertools.product(*space) if sum(genome) % 2 == 0}


def test_a_child_has_its_parents_genes_but_for_one():
    """Parents win tournaments: the worst of the population, whose genes are 0, has no child."""
    evolution = Evolution(space=[range(9)] * 6, is_valid=everything, population=3, tournament=3)
    scores = {(1,) * 6: 1.0, (2,) * 6: 2.0, (0,) * 6: 0.0, (5,) * 6: -1.0}
    children = [evolution.propose(scores) for _ in range(50)]
    assert all(child.count(2) >= 5 for child in children)
    evolution = Evolution(space=[range(9)] * 6, is_valid=everything, population=2, tournament=1)
    crossed = [evolution.propose({(1,) * 6: 1.0, (2,) * 6: 2.0, (5,) * 6: -1.0}) for _ in range(50)]
    assert all(child.count(1) + child.count(2) >= 5 for child in crossed)
    assert any(child.count(1) >= 2 and child.count(2) >= 2 for child in crossed)
