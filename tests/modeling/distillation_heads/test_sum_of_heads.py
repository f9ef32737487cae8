import pytest
import torch
from cankd.modeling import CanKDHead, Distiller, FKDHead, KDHead, SumOfHeads
from detectron2.utils.events import EventStorage

from tests.modeling.distillation_heads.test_distillation_head import L2Head, TwoTermHead, features
from tests.tiny import batch, detector, distiller, teacher


def test_losses_add_up_and_keep_their_names():
    heads = [CanKDHead(levels=["p3"], in_channels=4), L2Head(levels=["p3", "p4"], in_channels=4)]
    head = SumOfHeads(heads=heads, weight=0.5)
    assert head.levels == ("p3", "p4")
    inputs = features({"p3": 4, "p4": 4}), features({"p3": 4, "p4": 4}, seed=1)
    losses = head(*inputs)
    assert tuple(losses) == ("loss_cankd_p3", "loss_l2_p3", "loss_l2_p4") and set(losses) == set(head.loss_names)
    torch.testing.assert_close(losses["loss_l2_p4"], 0.5 * heads[1](*inputs)["loss_l2_p4"])
    assert head.losses_by_level == {"p3": ["loss_cankd_p3", "loss_l2_p3"], "p4": ["loss_l2_p4"]}
    assert head.correlations(*inputs).keys() == {"p3", "p4"}


def test_heads_of_one_name_are_numbered():
    head = SumOfHeads(heads=[L2Head(levels=["p3"], in_channels=4, start=start) for start in (1.0, 2.0, 3.0)])
    assert head.loss_names == ("loss_l2_p3", "loss_l22_p3", "loss_l23_p3")
    losses = head(features({"p3": 4}), features({"p3": 4}, seed=1))
    assert len({loss.item() for loss in losses.values()}) == 3


def test_trains_in_a_distiller_and_restores_its_generators(tmp_path):
    head = SumOfHeads(heads=[CanKDHead(levels=["p3", "p4"], pool_size=1), TwoTermHead(levels=["p5"])])
    model = distiller(tmp_path, head=head).train()
    with EventStorage():
        losses = model(batch())
    assert {"loss_cankd_p3", "loss_cankd_p4", "loss_two_near_p5", "loss_two_far_p5"} < losses.keys()
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())
    again = SumOfHeads(heads=[CanKDHead(levels=["p3", "p4"], pool_size=1), TwoTermHead(levels=["p5"])])
    Distiller(student=detector("retinanet"), teacher=teacher(tmp_path), head=again)
    again.load_state_dict(head.state_dict())
    states = [h.state_dict()["heads.1.generator_state.cpu"] for h in (head, again)]
    assert torch.equal(*states)


@pytest.mark.parametrize("weight, own", [(0.0, 1.0), (1.0, 0.0)])
def test_is_the_baseline_without_weight(tmp_path, weight, own):
    head = SumOfHeads(heads=[L2Head(levels=["p3"], weight=own), CanKDHead(levels=["p4"], weight=own)], weight=weight)
    model = distiller(tmp_path, head=head).train()
    assert not head.is_active
    model.teacher.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    with EventStorage():
        losses = model(batch())
    assert all(losses[name] == 0 for name in head.loss_names)


def test_a_head_without_weight_does_not_run():
    idle = L2Head(levels=["p3"], in_channels=4, weight=0.0)
    idle.compare = lambda *_: pytest.fail("it ran")
    head = SumOfHeads(heads=[idle, CanKDHead(levels=["p3"], in_channels=4)])
    losses = head(features({"p3": 4}), features({"p3": 4}, seed=1))
    assert head.is_active and losses["loss_l2_p3"] == 0
    sum(losses.values()).backward()
    assert idle.scales["p3"].grad == 0  # DistributedDataParallel waits for it


def test_needs_a_head():
    with pytest.raises(ValueError, match="a sum of heads has no heads"):
        SumOfHeads(heads=[])


def test_heads_without_levels_get_the_distillers(tmp_path):
    heads = [FKDHead(levels=None, pool_size=(2, 1)), L2Head(levels=["p4"]), CanKDHead(levels=None, pool_size=1)]
    head = SumOfHeads(heads=heads)
    assert head.lacks_levels
    model = Distiller(student=detector("retinanet"), teacher=teacher(tmp_path), head=head).train()
    assert [len(h.levels) for h in heads] == [3, 1, 3] and head.levels == ("p3", "p4", "p5")
    assert heads[0].pool_size == {"p3": 2, "p4": 1, "p5": 1}
    with EventStorage():
        losses = model(batch(size=128))
    assert set(head.loss_names) < losses.keys() and "loss_cankd_p5" in losses
    with pytest.raises(ValueError, match="head.in_channels is given without head.levels"):
        CanKDHead(levels=None, in_channels=4)


def test_a_sum_of_sums_is_refused():
    with pytest.raises(ValueError, match="has a sum among its heads"):
        SumOfHeads(heads=[SumOfHeads(heads=[L2Head(levels=["p3"])])])


def test_a_mapping_of_one_heads_levels_leaves_the_others_choice_alone(tmp_path):
    logits = KDHead(levels=["head:0:0"], sigmoid=True)
    head = SumOfHeads(heads=[CanKDHead(levels=None), logits])
    student, other = detector("retinanet"), teacher(tmp_path)
    Distiller(student=student, teacher=other, head=head, levels={"head:0:0": "head:0:1"})
    assert head.heads[0].levels == ("p3", "p4", "p5") and logits.levels == ("head:0:0",)
