import torch
from cankd.modeling.meta_arch import PointAssigner
from detectron2.structures import Boxes

# Two levels of an image of 32×32 pixels: a 4×4 grid of stride 8 (points 0 to 15), a 2×2 grid of stride 16 (16 to 19).
POINTS = torch.tensor(
    [[x, y] for y in (0.0, 8, 16, 24) for x in (0.0, 8, 16, 24)] + [[x, y] for y in (0.0, 16) for x in (0.0, 16)]
)
STRIDES = torch.tensor([8.0] * 16 + [16.0] * 4)


def assign(boxes, **arguments):
    assigned = PointAssigner(**arguments)(POINTS, STRIDES, Boxes(torch.tensor(boxes)))
    return {point: box for point, box in enumerate(assigned.tolist()) if box >= 0}


def test_level_follows_the_size():
    # Sides 32 / 4 = 8 and 64 / 4 = 16 are the strides themselves; a very small or large box gets the nearest level.
    assert assign([[-8.0, -8, 24, 24]]) == {5: 0}  # centre (8, 8), stride 8
    assert assign([[-16.0, -16, 48, 48]]) == {19: 0}  # centre (16, 16), stride 16
    assert assign([[7.0, 7, 10, 10]]) == {5: 0}
    assert assign([[-200.0, -200, 200, 200]]) == {16: 0}


def test_oblong_box_belongs_to_the_level_of_its_mean_size():
    # log2(16 / 4) = 2 and log2(64 / 4) = 4: their mean is 3, the level of stride 8.
    assert assign([[0.0, -24, 16, 40]]) == {5: 0}


def test_nearest_point_by_distance_in_box_sizes():
    # Centre (13, 11) of a box 16 wide, 64 high. Point (8, 8): 5/16, 3/64; (16, 8): 3/16, 3/64; (16, 16): 3/16, 5/64.
    assert assign([[5.0, -21, 21, 43]]) == {6: 0}
    assert assign([[5.0, -21, 21, 43]], num_points=2) == {6: 0, 10: 0}


def test_contested_point_goes_to_the_nearer_box():
    near, far = [-8.0, -8, 24, 24], [-6.0, -8, 26, 24]  # centres (8, 8) and (10, 8): both nearest to point 5
    assert assign([near, far]) == {5: 0}
    assert assign([far, near]) == {5: 1}


def test_no_more_points_than_the_level_has():
    assert assign([[-16.0, -16, 48, 48]], num_points=9) == {16: 0, 17: 0, 18: 0, 19: 0}
