import math

import pytest
import torch
from cankd.modeling.meta_arch import PointsToBoxes

# Five points (x, y): four on the corners of a square of side 2 around (3, 5), then one far to the right.
POINTS = torch.tensor([[2.0, 4.0], [4.0, 4.0], [2.0, 6.0], [4.0, 6.0], [8.0, 5.0]])


def test_minmax_holds_all_points():
    assert PointsToBoxes("minmax")(POINTS).tolist() == [2, 4, 8, 6]


def test_partial_minmax_holds_the_first_four():
    assert PointsToBoxes("partial_minmax")(POINTS).tolist() == [2, 4, 4, 6]


def test_moment_is_mean_plus_minus_scaled_deviation():
    transform = PointsToBoxes("moment")
    with torch.no_grad():
        transform.log_scale.copy_(torch.tensor([0.0, math.log(2)]))
    # x: mean 4, squared deviations 4 + 0 + 4 + 0 + 16 = 24, over 4 is 6. y: mean 5, squared deviations 4, over 4 is 1.
    expected = torch.tensor([4 - math.sqrt(6), 5 - 2 * 1, 4 + math.sqrt(6), 5 + 2 * 1])
    torch.testing.assert_close(transform(POINTS), expected)


def test_moment_scales_train_slowly():
    fast, slow = PointsToBoxes("moment", gradient_mul=1.0), PointsToBoxes("moment")
    for transform in (fast, slow):
        transform(POINTS)[2].backward()
    torch.testing.assert_close(slow.log_scale.grad, 0.01 * fast.log_scale.grad)
    assert fast.log_scale.grad[0] == pytest.approx(math.sqrt(6))


def test_leading_dimensions_stay():
    boxes = PointsToBoxes("moment")(POINTS.expand(2, 3, 5, 2))
    assert boxes.shape == (2, 3, 4)


def test_unknown_transform_is_refused():
    with pytest.raises(ValueError, match="'median' is unknown: choose one of moment, minmax, partial_minmax"):
        PointsToBoxes("median")
