import random
from collections.abc import Callable, Hashable, Mapping, Sequence

from cankd.utils import UserError

__all__ = ["Evolution", "Genome"]

Genome = tuple[Hashable, ...]
"""A choice for each gene."""

TRIES = 1000  # at a genome that is valid and new, before a space counts as searched through


class Evolution:
    """Proposes genomes one by one: at random until there is a population, then children of the best so far.

    The population are the best of all that have a score. Two tournaments choose the parents, a one-point crossover
    joins them, and one gene of the child mutates. Proposals depend on seed and scores alone, so that a search which is
    run again takes the same way.
    """

    def __init__(
        self,
        *,
        space: Sequence[Sequence[Hashable]],
        is_valid: Callable[[Genome], bool],
        initial: Sequence[Genome] = (),
        population: int = 8,
        tournament: int = 3,
        evolves: bool = True,
        seed: int = 0,
    ):
        """
        Args:
            space: the choices for each gene.
            is_valid: tells whether a genome is worth a score.
            initial: genomes that are proposed before any other.
            population: genomes that may become parents, at least 2.
            tournament: genomes of which the best becomes a parent.
            evolves: False draws all genomes at random, for comparison.
            seed: of the draws.

        Raises:
            UserError: if the population or the tournament is too small.
        """
        if population < 2 or tournament < 1:
            raise UserError(
                f"an evolution has a population of {population} and tournaments of {tournament}; it needs 2 and 1 at "
                "least"
            )
        self._space = [tuple(choices) for choices in space]
        self._is_valid = is_valid
        self._initial = iter(initial)
        self._population = population
        self._tournament = tournament
        self._evolves = evolves
        self._random = random.Random(seed)

    def propose(self, scores: Mapping[Genome, float]) -> Genome | None:
        """Returns a valid genome that has no score yet, None if none is found.

        Args:
            scores: of all genomes that were tried, higher is better.
        """
        best = sorted(scores, key=scores.get, reverse=True)[: self._population]
        has_parents = self._evolves and len(best) == self._population
        for attempt in range(2 * TRIES):
            genome = next(self._initial, None)
            if genome is None:
                # A population that has converged has no new children.
                genome = self._child(best, scores) if has_parents and attempt < TRIES else self._draw()
            if genome not in scores and self._is_valid(genome):
                return genome
        return None

    def _draw(self):
        return tuple(self._random.choice(choices) for choices in self._space)

    def _child(self, population, scores):
        first, second = (self._choose_parent(population, scores) for _ in range(2))
        cut = self._random.randrange(len(self._space) + 1)
        child = [*first[:cut], *second[cut:]]
        gene = self._random.randrange(len(child))
        child[gene] = self._random.choice(self._space[gene])
        return tuple(child)

    def _choose_parent(self, population, scores):
        size = min(self._tournament, len(population))
        return max(self._random.sample(population, size), key=scores.get)
