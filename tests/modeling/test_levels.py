import contextlib

import pytest
import torch
from cankd.modeling.levels import (
    LevelPair,
    PaddedSizes,
    check_sizes,
    choose_levels,
    describe_pairs,
    match_levels,
    padded_size,
    pair_features,
)
from detectron2.layers import ShapeSpec
from torch import nn

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


def test_chooses_the_usual_levels_or_those_whose_strides_pair_up():
    larger = {f"p{i}": ShapeSpec(channels=64, stride=2**i) for i in range(2, 7)}
    assert choose_levels(larger, larger) == ["p3", "p4", "p5"]
    stages = {f"res{i}": ShapeSpec(channels=64, stride=2**i) for i in range(2, 6)}
    assert choose_levels(larger, stages) == ["p2", "p3", "p4", "p5"]
    assert choose_levels(larger, {"res4": stages["res4"]}) == ["p4"]
    assert choose_levels(stages, DILATED) == ["res2", "res3"]  # res3 by its name, of three of one stride
    assert choose_levels(larger, stages, {"p6": "res5"}) == ["p6"]
    pooled = {"pooled": ShapeSpec(channels=64, stride=None)}
    assert choose_levels({**stages, **pooled}, {**stages, **pooled}) == list(stages)
    with pytest.raises(ValueError, match=r"no level of the student has the stride(.*\n)+.*teacher .*p3"):
        choose_levels({"res2": stages["res2"]}, PYRAMID)


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


def test_paths_pair_up_by_name_and_have_to_agree_in_stride():
    """A level inside a model is no backbone's, even where the strides are the same."""
    logits = {"head:0": ShapeSpec(channels=10, stride=8), "classifier": ShapeSpec(channels=5, stride=None)}
    assert names(match_levels(["p3", "head:0", "classifier"], {**PYRAMID, **logits}, {**PYRAMID, **logits})) == [
        ("p3", "p3"),
        ("head:0", "head:0"),
        ("classifier", "classifier"),
    ]
    with pytest.raises(ValueError, match="of the student's 'p3' and the teacher's 'classifier' only one is a map"):
        match_levels(["p3"], PYRAMID, logits, {"p3": "classifier"})
    with pytest.raises(ValueError, match="the teacher has no level 'head:0' of the same stride, 8"):
        match_levels(["head:0"], logits, {**PYRAMID, "head:0": ShapeSpec(channels=10, stride=16)})


def test_maps_are_resized_and_cropped_and_logits_stay():
    shapes = {"p3": ShapeSpec(channels=2, stride=8), "fc": ShapeSpec(channels=3, stride=None)}
    other = {"p4": ShapeSpec(channels=2, stride=16), "fc": ShapeSpec(channels=3, stride=None)}
    pairs = match_levels(["p3", "fc"], shapes, other, {"p3": "p4"})
    logits = torch.randn(2, 3)
    features = {"p3": torch.randn(2, 2, 9, 8), "fc": logits}, {"p4": torch.randn(2, 2, 6, 4), "fc": logits}
    student, teacher = pair_features(pairs, *features)
    assert student["p3"].shape == teacher["p3"].shape == (2, 2, 4, 4)
    assert student["fc"] is teacher["fc"] is logits


@pytest.mark.parametrize(
    "student, teacher, size, padded, fits",
    [
        ((16, 16), (16, 16), (128, 128), (128, 128), True),
        ((13, 16), (16, 16), (100, 128), (128, 128), True),  # the teacher pads more
        ((13, 16), (128, 128), (100, 128), (1024, 1024), True),  # to a square, as ViTDet
        ((15, 15), (16, 16), (128, 128), (128, 128), True),  # without the border
        ((8, 8), (16, 16), (128, 128), (128, 128), False),  # the student's stride is 16
        ((16, 16), (32, 32), (128, 128), (128, 128), False),  # the teacher's is 4
        ((8, 8), (8, 8), (128, 128), (128, 128), True),  # both are wrong in the same way
    ],
)
def test_maps_show_the_same_part_of_an_image(student, teacher, size, padded, fits):
    pair = LevelPair("p3", "c3", 8, 8, 4, 4)
    maps = {"p3": torch.zeros(1, 4, *student)}, {"c3": torch.zeros(1, 4, *teacher)}
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="which their strides do not explain"):
        check_sizes([pair], *maps, PaddedSizes(size, size, padded))


@pytest.mark.parametrize("side, fits", [(3, True), (6, False)])
def test_maps_of_unknown_strides_have_one_size(side, fits):
    maps = {"a": torch.zeros(1, 4, 3, 3)}, {"a": torch.zeros(1, 4, side, side)}
    with (
        contextlib.nullcontext() if fits else pytest.raises(ValueError, match="'a' is 3×3 and the teacher's 'a' is 6×6")
    ):
        check_sizes([LevelPair("a", "a", None, None, 4, 4)], *maps, PaddedSizes((99, 99), (99, 99), (99, 99)))


def test_padding_is_what_the_backbone_asks_for():
    plain, divisible, square = nn.Module(), nn.Module(), nn.Module()
    divisible.backbone, square.backbone = nn.Module(), nn.Module()
    divisible.backbone.size_divisibility = 32
    square.backbone.padding_constraints = {"square_size": 1024}
    found = [padded_size(model, (100, 130)) for model in (plain, divisible, square)]
    assert found == [(100, 130), (128, 160), (1024, 1024)]
