"""DetKDS's search in small: the form of distillation that makes a student best after a few iterations."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence

from cankd.modeling.distillation_heads.detkds_genes import SEARCH_SPACES, SEARCH_WEIGHTS, check_genes
from cankd.utils import UserError, write_json
from detectron2.utils import comm
from omegaconf import DictConfig

from .build import is_distillation
from .candidates import Candidates
from .evolution import Evolution
from .methods import levels_of_features, levels_of_logits
from .preflight import lock_output_dir

__all__ = ["search_distiller"]


def search_distiller(
    config: DictConfig,
    scopes: Mapping[str, Sequence[str] | None],
    output_dir: str,
    *,
    iterations: int,
    budget: int,
    metric: str = "bbox/AP",
    evolves: bool = True,
    population: int = 8,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> str:
    """Searches for a distiller: the form of each scope by itself, then the weights of all together (DetKDS, 2024).

    A candidate is trained for a few iterations, like all others from the same student and on the same batches, and
    evaluated; one that :func:`check_genes` refuses is not. The same search, run again, goes on where it was.

    Args:
        config: of a distillation; its head is replaced.
        scopes: map from scope to the student's levels, see :class:`DetKDSHead`; None for those of the config, and for
            the scope "logits" for those of the class logits.
        output_dir: of the results, see :class:`Candidates`, and of the file that the search ends with.
        iterations: of a candidate.
        budget: iterations of all candidates together; each scope gets as many as the weights.
        metric: task and name of what is to be large, in per cent.
        evolves: False draws all candidates at random.
        population: candidates that may become parents.
        seed: of the search; that of training is ``train.seed``.
        report: takes a line for each candidate.

    Returns:
        The path of a JSON file with the best distiller, a method for :func:`use_method`.

    Raises:
        UserError: if the config is not of a distillation, candidates would start differently, the budget is too small,
            or no form is valid.
    """
    _check(config, scopes)
    scopes = {scope: levels or _usual_levels(config.model, scope) for scope, levels in scopes.items()}
    num_candidates = _count_candidates(len(scopes), iterations, budget)
    if evolves and num_candidates <= population and comm.is_main_process():
        report(
            f"Nothing evolves: each scope has {num_candidates} candidates, no more than the population of "
            f"{population}. Raise the budget, or lower the population or the iterations."
        )
    candidates = Candidates(
        config, os.path.join(output_dir, "candidates"), iterations=iterations, metric=metric, report=report
    )
    search = functools.partial(
        _search,
        candidates,
        num_candidates,
        config.dataloader.train.total_batch_size // (comm.get_world_size() * config.train.accumulate),
        evolves=evolves,
        population=population,
        seed=seed,
    )
    with lock_output_dir(output_dir, called="the directory "):
        best = _search_forms_then_weights(search, scopes)
        path = os.path.join(output_dir, "best.json")
        if comm.is_main_process():
            write_json(path, best)
    return path


def _check(config, scopes):
    if not is_distillation(config):
        raise UserError(
            "the config's model has no teacher: to search for a distiller, give the config of a distillation"
        )
    if config.train.seed < 0:
        raise UserError(f"train.seed is {config.train.seed}, and no two candidates start alike: set it to 0 or more")
    if unknown := set(scopes) - set(SEARCH_SPACES):
        raise UserError(f"there is no scope {', '.join(sorted(unknown))}: choose among {', '.join(SEARCH_SPACES)}")


def _usual_levels(model, scope):
    return levels_of_logits(model, "the scope logits") if scope == "logits" else levels_of_features(model)


def _count_candidates(num_scopes, iterations, budget):
    """Returns how many candidates each scope has, and the weights."""
    num_candidates = budget // max(1, iterations) // (num_scopes + 1)
    if iterations < 1 or num_scopes < 1 or num_candidates < 1:
        raise UserError(
            f"a budget of {budget} iterations, {iterations} for a candidate, leaves {num_candidates} candidates for "
            f"each of {num_scopes} scopes and for the weights: name a scope, raise the budget or lower the iterations"
        )
    return num_candidates


def _search_forms_then_weights(search, scopes):
    """Returns the heads that do best together: the best form of each scope by itself, then their weights."""
    forms = []
    for scope, levels in scopes.items():
        genes = functools.partial(_form, scope, levels, tuple(SEARCH_SPACES[scope]))
        forms += search(genes, list(SEARCH_SPACES[scope].values()))
    weights = [tuple(dict.fromkeys((form["weight"], *SEARCH_WEIGHTS[form["scope"]]))) for form in forms]
    return search(functools.partial(_weigh, forms), weights, initial=[tuple(form["weight"] for form in forms)])


def _form(scope, levels, names, genome):
    return [{"scope": scope, "levels": levels and list(levels), **dict(zip(names, genome))}]


def _weigh(forms, genome):
    return [{**form, "weight": weight} for form, weight in zip(forms, genome) if weight]


def _search(candidates, num_candidates, images_per_gpu, make_heads, space, **options):
    """Returns the heads of the best candidate."""

    def is_valid(genome):
        heads = make_heads(genome)
        try:
            for genes in heads:
                check_genes(genes, images_per_gpu=images_per_gpu)
        except UserError:
            return False
        return bool(heads)

    evolution, scores = Evolution(space=space, is_valid=is_valid, **options), {}
    while len(scores) < num_candidates and (genome := evolution.propose(scores)) is not None:
        scores[genome] = candidates.score(make_heads(genome))
    if not scores:
        raise UserError("no form is valid: train with more images a GPU (dataloader.train.total_batch_size)")
    return make_heads(max(scores, key=scores.get))
