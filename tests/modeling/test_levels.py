import pytest
import torch
from cankd.modeling.features import backbone_shapes, describe_pairs, match_levels, record_features, restrict_backbone
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from tests.tiny import detector

PYRAMID = {f"p{i}": ShapeSpec(channels=256, stride=2**i) for i in range(3, 6)}
DILATED = {f"res{i}": ShapeSpec(channels=2 ** (i + 6), stride=min(2**i, 8)) for i in range(2, 6)}


def names(pairs):
    return [(pair.student, pair.teacher) for pair in pairs]


def test_matches_by_stride_whatever_the_names():
    teacher = {"scale1": ShapeSpec(channels=64, stride=32), "scale2": ShapeSpec(channels=96, stride=8)}
    (pair,) = match_levels(["p3"], PYRAMID, teacher)
    assert (pair.teacher, pair.student_stride, pair.teacher_stride) == ("scale2", 8, 8)
    assert (pair.student_channels, pair.teacher_channels) == (256, 96)


def test_matches_by_name_where_strides_repeat():
    assert names(match_levels(["res5", "res3"], DILATED, DILATED)) == [("res5", "res5"), ("res3", "res3")]


def test_mapping_wins_and_may_change_the_stride():
    pairs = match_levels(["p3", "p4"], PYRAMID, PYRAMID, {"p3": "p4"})
    assert names(pairs) == [("p3", "p4"), ("p4", "p4")]
    assert describe_pairs(pairs).count("student resized") == 1


@pytest.mark.parametrize(
    "levels, student, teacher, mapping, message",
    [
        (["p2"], PYRAMID, PYRAMID, None, "the student has no level 'p2'"),
        (["p3"], PYRAMID, {"p4": PYRAMID["p4"]}, None, "the teacher has no level of stride 8"),
        (["p3"], PYRAMID, DILATED, None, r"'p3' matches \['res3', 'res4', 'res5'\] of the teacher"),
        (["p3"], PYRAMID, PYRAMID, {"p3": "p9"}, "maps 'p3' to 'p9', which the teacher lacks"),
        (["p3"], PYRAMID, PYRAMID, {"p4": "p4"}, r"maps \['p4'\], but head.levels has only \['p3'\]"),
    ],
)
def test_refuses_with_both_tables(levels, student, teacher, mapping, message):
    with pytest.raises(ValueError, match=message) as error:
        match_levels(levels, student, teacher, mapping)
    for role, shapes in (("student", student), ("teacher", teacher)):
        for name, shape in shapes.items():
            assert any(
                [cell.strip() for cell in line.split("|")[1:-1]] == [role, name, str(shape.stride), str(shape.channels)]
                for line in str(error.value).splitlines()
            )


def test_refuses_a_model_without_a_backbone():
    with pytest.raises(ValueError, match="the teacher is a Linear without a `backbone`"):
        backbone_shapes(nn.Linear(1, 1), "teacher")


def test_records_only_while_the_context_lasts():
    backbone = detector("retinanet").backbone
    image = torch.randn(1, 3, 64, 64)
    with record_features(backbone) as features:
        expected = backbone(image)
        assert features.keys() == expected.keys() and all(features[k] is expected[k] for k in expected)
    backbone(image + 1)
    assert all(features[k] is expected[k] for k in expected)
    assert not backbone._forward_hooks


@pytest.mark.parametrize("top_block", [None, LastLevelMaxPool, LastLevelP6P7])
@pytest.mark.parametrize("levels", [["p3", "p4", "p5"], ["p5"], ["p4"], ["p4", "p6"], ["p6"]])
def test_restricted_pyramid_gives_the_same_features_by_fewer_convolutions(top_block, levels):
    if top_block is None and "p6" in levels:
        pytest.skip("this pyramid has no p6")
    small = detector("retinanet").backbone
    extra = top_block and (top_block(128, 64) if top_block is LastLevelP6P7 else top_block())
    pyramid = FPN(small.bottom_up, small.in_features, 64, top_block=extra).eval()
    image = torch.randn(1, 3, 64, 96)
    whole = pyramid(image)
    calls = []
    for name, module in pyramid.named_modules():
        if "fpn_" in name or name == "top_block":
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    restricted = restrict_backbone(pyramid, levels)(image)

    for level in levels:
        assert torch.equal(restricted[level], whole[level])
    finest = min(int(level[1]) for level in levels if level != "p6") if levels != ["p6"] else 5
    expected = {f"fpn_{part}{i}" for part in ("lateral", "output") for i in range(finest, 6)}
    assert set(calls) == expected | ({"top_block"} if "p6" in levels else set())
    assert pyramid(image).keys() == whole.keys() and set(pyramid.output_shape()) == set(whole)
