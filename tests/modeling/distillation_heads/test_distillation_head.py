import copy

import pytest
import torch
from cankd.modeling import CanKDHead, DistillationHead, LevelPair, StepContext
from cankd.utils import UserError
from torch import nn


class L2Head(DistillationHead):
    """Trains a scale a level, set up after the base class as PyTorch users write it."""

    name = "l2"

    def __init__(self, start=2.0, **kwargs):
        super().__init__(**kwargs)
        self.scales = nn.ParameterDict()
        self.start = start

    def build_level(self, pair):
        self.scales[pair.student.replace(".", "/")] = nn.Parameter(torch.tensor(self.start))

    def compare(self, level, student, teacher, context):
        return (self.scales[level.replace(".", "/")] * student - teacher).square().mean()


class TwoTermHead(DistillationHead):
    name = "two"
    terms = ("near", "far")

    def compare(self, level, student, teacher, context):
        noise = torch.rand(student.shape[0], generator=self.generator(student.device))
        near = (student - teacher).abs().mean(tuple(range(1, student.ndim)))
        return {"near": (noise * near).mean(), "far": near.max()}


def features(channels, size=(6, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {level: torch.randn(2, c, *size, generator=generator) for level, c in channels.items()}


def test_builds_itself_after_the_constructor_of_a_subclass():
    head = L2Head(levels=["p3"], in_channels=4, weight=0.5)
    student, teacher = features({"p3": 4}), features({"p3": 4}, seed=1)
    losses = head(student, teacher)
    assert losses.keys() == {"loss_l2_p3"} == set(head.loss_names)
    torch.testing.assert_close(losses["loss_l2_p3"], 0.5 * (2 * student["p3"] - teacher["p3"]).square().mean())


def test_levels_may_differ_in_channels():
    head = L2Head(levels=["res3", "res4", "res5"], in_channels=(8, 16, 32), student_channels=[8, 8, 16])
    assert set(head.adapters) == {"res4", "res5"}
    assert head.adapters["res5"].weight.shape == (32, 16, 1, 1)
    student, teacher = features({"res3": 8, "res4": 8, "res5": 16}), features({"res3": 8, "res4": 16, "res5": 32})
    sum(head(student, teacher).values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


def test_connecting_builds_what_is_missing_and_keeps_what_is_there():
    head = CanKDHead(levels=["p3", "p4"], in_channels=4)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    pairs = [LevelPair("p3", "c3", 8, 8, 6, 4), LevelPair("p4", "c4", 16, 16, 4, 4)]
    head.connect(pairs)
    assert set(head.adapters) == {"p3"}
    assert all(torch.equal(head.state_dict()[name], value) for name, value in before.items())
    head.connect(pairs)  # once more changes nothing
    with pytest.raises(ValueError, match="in_channels is 4, but the teacher's level 'c4' has 5 channels: leave .* out"):
        head.connect([LevelPair("p4", "c4", 16, 16, 4, 5)])
    narrow = CanKDHead(levels=["p3"], in_channels=4, student_channels=5)
    with pytest.raises(ValueError, match="student_channels is 5, but the student's level 'p3' has 6 channels"):
        narrow.connect(pairs)
    late = CanKDHead(levels=["p3", "p4"])
    assert not list(late.parameters())
    late.connect(pairs)
    assert late.state_dict().keys() == head.state_dict().keys()


def test_levels_with_dots_have_modules_and_losses_of_their_name():
    level = "backbone.net.blocks.0"
    head = CanKDHead(levels=[level], in_channels=4, student_channels=3, pool_size=1)
    assert head.non_local[level].out.out_channels == 4 and level in head.adapters
    assert "non_local.backbone/net/blocks/0.out.weight" in head.state_dict()
    assert head(features({level: 3}), features({level: 4})).keys() == {f"loss_cankd_{level}"}


def test_terms_are_named_and_weighted():
    head = TwoTermHead(levels=["p3", "p4"], in_channels=4, weight=3.0)
    losses = head(features({"p3": 4, "p4": 4}), features({"p3": 4, "p4": 4}, seed=1))
    names = ("loss_two_near_p3", "loss_two_far_p3", "loss_two_near_p4", "loss_two_far_p4")
    assert tuple(losses) == head.loss_names == names
    assert head.losses_by_level == {"p3": [*names[:2]], "p4": [*names[2:]]}
    once = TwoTermHead(levels=["p3"], in_channels=4)(features({"p3": 4}), features({"p3": 4}, seed=1))
    torch.testing.assert_close(losses["loss_two_far_p3"], 3 * once["loss_two_far_p3"])


def test_random_numbers_are_its_own_and_are_saved_and_restored():
    student, teacher = features({"p3": 4}), features({"p3": 4}, seed=1)

    def draw(head):
        return head(student, teacher)["loss_two_near_p3"].item()

    torch.manual_seed(0)
    head, other = (TwoTermHead(levels=["p3"], in_channels=4, seed=seed) for seed in (0, 1))
    state = torch.get_rng_state()
    first = draw(head)
    assert torch.equal(torch.get_rng_state(), state)
    assert first != draw(other)
    saved = copy.deepcopy(head.state_dict())
    expected = [draw(head) for _ in range(3)]
    restored = TwoTermHead(levels=["p3"], in_channels=4)
    restored.load_state_dict(saved)
    assert torch.equal(restored.state_dict()["generator_state.cpu"], saved["generator_state.cpu"])  # before it draws
    assert [draw(restored) for _ in range(3)] == expected
    head.load_state_dict(saved)
    assert draw(head) == expected[0]


def test_a_head_that_draws_nothing_keeps_its_state_dict():
    head = CanKDHead(levels=["p3"], in_channels=4)
    head(features({"p3": 4}), features({"p3": 4}, seed=1))
    layers = ("theta", "phi", "g", "out", "norm")
    keys = {f"non_local.p3.{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    keys |= {f"non_local.p3.norm.{part}" for part in ("running_mean", "running_var", "num_batches_tracked")}
    assert head.state_dict().keys() == keys


def test_logits_have_no_correlation_over_positions():
    head = L2Head(levels=["p3", "fc"], in_channels=4)
    logits = {"fc": torch.randn(2, 4)}
    student, teacher = {**features({"p3": 4}), **logits}, {**features({"p3": 4}, seed=1), **logits}
    assert head.correlations(student, teacher).keys() == {"p3"}
    assert head(student, teacher).keys() == {"loss_l2_p3", "loss_l2_fc"}


def test_the_context_reaches_the_method():
    class Counting(DistillationHead):
        name = "count"

        def compare(self, level, student, teacher, context):
            return student.mean() * 0 + len(context.batch) * context.strides[level]

    head = Counting(levels=["p3"], in_channels=4)
    losses = head(features({"p3": 4}), features({"p3": 4}), StepContext([{}, {}, {}], {"p3": 8}))
    assert losses["loss_count_p3"] == 24


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"levels": ["p3", "p4"], "in_channels": [4]}, r"channels are given for 1 levels"),
        ({"levels": ["p3"], "student_channels": 4}, "student_channels is given without head.in_channels"),
        ({"weight": -2.0}, "the distillation weight is -2.0"),
    ],
)
def test_refuses_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        L2Head(**arguments)


@pytest.mark.parametrize(
    "student, teacher, message",
    [
        ((2, 4), None, "there is no feature of level 'p3', but of p9"),
        ((1, 4), (2, 4), "1 images of 4 channels of the student and 2 of 4 of the teacher"),
        ((2, 5), (2, 4), "was built for 4 and 4 channels"),
    ],
)
def test_features_that_do_not_fit_are_named(student, teacher, message):
    head = L2Head(levels=["p3"], in_channels=4)
    maps = [{"p3": torch.zeros(*size, 6, 5)} if size else {"p9": 0} for size in (student, teacher)]
    with pytest.raises(ValueError, match=message):
        head(*maps)


@pytest.mark.parametrize("loss, given", [(torch.ones(2, 3), r"shape \(2, 3\)"), (None, "None"), (0.5, "0.5")])
def test_a_loss_has_to_be_a_scalar(loss, given):
    class Mistaken(DistillationHead):
        name = "mistaken"

        def compare(self, level, student, teacher, context):
            return loss

    feature = {"p3": torch.rand(2, 4, 5, 5)}
    with pytest.raises(UserError, match=f"Mistaken.compare gives {given} for level 'p3'; a loss is a tensor without"):
        Mistaken(levels=["p3"], in_channels=4)(feature, feature)


def test_a_method_has_to_have_a_name():
    class Nameless(DistillationHead):
        pass

    with pytest.raises(UserError, match="Nameless has no attribute name, which stands in the names of its losses"):
        Nameless(levels=["p3"], in_channels=4)


def test_levels_are_a_list():
    with pytest.raises(UserError, match=r"levels is 'p3'; it has to be a list: \[p3\]"):
        CanKDHead(levels="p3")


def test_terms_have_to_be_named():
    class Nameless(TwoTermHead):
        terms = ()

    with pytest.raises(
        ValueError, match=r"Nameless.compare gives the terms \['near', 'far'\], and the class names \[\]"
    ):
        Nameless(levels=["p3"], in_channels=4)(features({"p3": 4}), features({"p3": 4}, seed=1))
