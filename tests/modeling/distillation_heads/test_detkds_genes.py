import itertools

import pytest
import torch
from cankd.modeling.distillation_heads.detkds_genes import SEARCH_SPACES, SEARCH_WEIGHTS, check_genes
from cankd.modeling.distillation_heads.detkds_operations import (
    DISTANCES,
    FIRST_OPERATIONS,
    RANDOM_FACTORS,
    SECOND_OPERATIONS,
    THIRD_OPERATIONS,
)

PUBLISHED = [
    {"scope": "global", "first": "catt", "second": "scale_r2", "third": "norm_N", "weight": 6.0},
    {"scope": "foreground", "second": "local_s4", "third": "norm_HW", "weight": 0.0},
    {"scope": "foreground", "first": "mask", "second": "scale_r1", "third": "norm_C"},
    {"scope": "instance", "first": "mask", "second": "scale_r1", "third": "norm_C", "distance": "pear"},
    {"scope": "logits", "third": "softmax_C", "distance": "pear"},
    {"scope": "logits", "third": "logsoftmax_C", "distance": "kl"},
]


@pytest.mark.parametrize("genes", PUBLISHED, ids=lambda genes: genes["scope"])
def test_published_genes_are_valid(genes):
    state = torch.get_rng_state()
    check_genes(genes)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "genes, images, message",
    [
        ({"distance": "kl", "third": "norm_C"}, 2, "'kl' compares logarithms"),
        ({"distance": "cos"}, 2, "drives the two apart"),
        ({"third": "norm_N"}, 1, "norm_N of DetKDS compares the images of a batch"),
        ({"third": "mm"}, 1, "mm of DetKDS compares the images of a batch"),
        ({"distance": "cor"}, 1, "cor of DetKDS compares the images of a batch"),
        ({"scope": "instance", "second": "local_s2"}, 2, "the boxes are elsewhere"),
        ({"scope": "instance", "third": "channel"}, 2, "there are no positions"),
        ({"scope": "logits", "first": "satt"}, 2, "'logits' has a third operation only"),
        ({"second": "local_s1", "third": "norm_HW"}, 2, "too small for norm_HW"),
        ({"first": "mask", "distance": "cor"}, 3, "global → mask → no → no → cor is infinite or NaN"),
        ({"third": "mm", "distance": "pear"}, 2, "'pear' correlates 2 numbers: it needs three"),
        ({"second": "local_s1", "third": "bmm"}, 2, "'bmm' compares all with all"),
    ],
)
def test_refuses_what_is_in_vain(genes, images, message):
    with pytest.raises(ValueError, match=message):
        check_genes(genes, images_per_gpu=images)


def test_the_published_space():
    """16,800 combinations, of names that exist."""
    sizes = [len(choices) for choices in SEARCH_SPACES["global"].values()]
    assert torch.tensor(sizes).prod() == 16_800
    known = {"first": {*FIRST_OPERATIONS, *RANDOM_FACTORS}, "second": SECOND_OPERATIONS, "third": THIRD_OPERATIONS}
    for scope, space in SEARCH_SPACES.items():
        assert all(set(space[gene]) <= set(names) for gene, names in known.items())
        assert set(space["distance"]) <= set(DISTANCES) and scope in SEARCH_WEIGHTS


@pytest.mark.parametrize("images", [1, 2])
def test_every_form_of_the_space_is_valid_or_refused_by_name(images):
    for scope, space in SEARCH_SPACES.items():
        valid = 0
        forms = itertools.product(*(space[gene][::2] for gene in ("first", "second", "third")), ("l1", "pear"))
        for form in forms:
            genes = dict(zip(("first", "second", "third", "distance"), form))
            try:
                check_genes({"scope": scope, **genes}, images_per_gpu=images)
                valid += 1
            except ValueError as error:
                assert type(error).__name__ == "UserError", genes
        assert valid > 2
