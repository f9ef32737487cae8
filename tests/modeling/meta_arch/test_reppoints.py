import math

import pytest
import torch
from cankd.modeling.meta_arch import RepPointsHead
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

from tests import tiny


@pytest.fixture
def model():
    return tiny.detector("reppoints")


SIZE = (64, 64)


def objects(boxes, classes, size=SIZE):
    instances = Instances(size)
    instances.gt_boxes, instances.gt_classes = Boxes(torch.tensor(boxes).view(-1, 4)), torch.tensor(classes).long()
    return instances


def positions(*centers, stride=8.0):
    return torch.tensor([[x - stride / 2, y - stride / 2, x + stride / 2, y + stride / 2] for x, y in centers])


def test_labels_of_both_stages(model):
    # The object is 32×32 around (16, 16). First-stage boxes: the object itself; a shift by 10 pixels: IoU 22/42 = 0.52;
    # by 13: 19/45 = 0.42, neither object nor background; far away.
    places = positions((16, 16), (26, 16), (29, 16), (60, 60))
    shifts = torch.tensor([[0.0, 0], [10, 0], [13, 0], [60, 60]]).repeat(1, 2)
    gt = objects([0.0, 0, 32, 32], [7])
    init, refine, classes = model.label_positions(places, gt.gt_boxes.tensor + shifts, gt, SIZE)
    assert classes.tolist() == [7, 7, -1, 10]
    assert init[:, 0].isnan().tolist() == [False, True, True, True]
    assert refine[:, 0].isnan().tolist() == [False, False, True, True]
    assert init[0].tolist() == refine[1].tolist() == [0, 0, 32, 32]


def test_an_object_that_no_box_fits_gets_its_best(model):
    gt = objects([0.0, 0, 32, 32], [3])
    boxes = torch.tensor([[0.0, 0, 16, 16], [40, 40, 60, 60]])  # IoU 1/4 and 0
    classes = model.label_positions(positions((8, 8), (48, 48)), boxes, gt, SIZE)[2]
    assert classes.tolist() == [3, 10]


def test_an_object_that_no_box_meets_gets_none(model):
    gt = objects([50.0, 50, 54, 54], [3])
    boxes = torch.tensor([[0.0, 0, 16, 16], [20, 20, 40, 40]])
    assert model.label_positions(positions((8, 8), (32, 32)), boxes, gt, SIZE)[2].tolist() == [10, 10]


def test_object_of_an_image_loses_no_match_to_a_larger_overlap(model):
    """Both objects find their best box in the first; it is given to the second, which has no other."""
    gt = objects([[0.0, 0, 32, 32], [0, 0, 8, 8]], [3, 4])
    boxes = torch.tensor([[0.0, 0, 32, 16], [40, 40, 60, 60]])  # IoU 1/2 and 1/8
    assert model.label_positions(positions((8, 8), (48, 48)), boxes, gt, SIZE)[2].tolist() == [4, 10]


def test_padding_is_no_background(model):
    """An image of 33×20 pixels is 64×32 when divisible by 32; what lies beyond is there for a larger image."""
    gt = objects([[0.0, 0, 16, 16]], [3])
    places = positions((8, 8), (24, 56), (32, 8), (8, 64))
    init, refine, classes = model.label_positions(places, places, gt, (33, 20))
    assert classes.tolist() == [3, 10, -1, -1]
    assert init[2:].isnan().all() and refine[2:].isnan().all()
    none = objects([], [])
    assert model.label_positions(places, places, none, (33, 20))[2].tolist() == [10, 10, -1, -1]


def test_image_without_positives_counts_as_one(model):
    model.point_base_scale = 1
    places = positions((0, 0), (8, 0))
    gt = torch.full((2, 2, 4), torch.nan)
    gt[0] = torch.tensor([0.0, 0, 8, 8])  # both positions of the first image regress; none of the second does
    boxes = torch.tensor([[0.0, 0, 1, 1], [-1, 0, 0, 1]]).repeat(2, 1, 1)
    boxes[0, 0, 2] += 2
    with EventStorage():
        losses = model.losses(places, torch.zeros(2, 2, 10), boxes, boxes, gt, gt, torch.tensor([[4, 4], [10, 10]]))
    assert losses["loss_points_refine"].item() == pytest.approx((2 - 0.11 / 2) / (2 + 1))
    assert losses["loss_cls"].item() == pytest.approx((0.25 * 2 + 0.75 * 38) * 0.25 * math.log(2) / (2 + 1))


def test_boxes_suppress_each_other_after_clipping(model):
    """Two boxes that differ beyond the border only are one detection; a box beyond it is none."""
    sizes = (4, 2, 1)
    scores = [torch.full((1, 10, side, side), -9.0) for side in sizes]
    points = [torch.zeros(1, 18, side, side) for side in sizes]
    # Boxes in strides of 8 from positions (0, 0), (8, 0) and (16, 0): to x = 16, 64 and from x = 40.
    for column, (left, right) in enumerate(((-2, 2), (-3, 7), (3, 4))):
        scores[0][0, 0, 0, column] = 3.0 - column
        points[0][0, :, 0, column] = torch.tensor([0.0, left, 2, right]).repeat(5)[:18]
    model.points_to_boxes.transform = "minmax"
    image = torch.zeros(1, 3, 32, 32)
    (found,) = model.forward_inference(ImageList(image, [(32, 16)]), scores, (scores, points, points))
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 16, 16]]


def test_losses_by_hand(model):
    # One image, two positions of stride 8 at the origin and (8, 0); in units of 4 strides the first object's corners
    # are at 0 and 1. Predictions are right but for one coordinate, off by 2 strides, which is half a unit.
    model.point_base_scale = 4
    places = positions((0, 0), (8, 0))
    gt = torch.tensor([[[0.0, 0, 32, 32], [torch.nan] * 4]])
    right = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 1, 1]]])
    wrong = right.clone()
    wrong[0, 0, 2] += 2
    scores = torch.zeros(1, 2, 10)
    with EventStorage():
        losses = model.losses(places, scores, wrong, right, gt, gt, torch.tensor([[4, 10]]))
    assert losses["loss_points_init"].item() == pytest.approx(0.5 * (0.5 - 0.11 / 2))
    assert losses["loss_points_refine"].item() == 0
    # Twenty probabilities of 1/2: one of an object, alpha 1/4, nineteen others, 3/4; (1 - 1/2)² · log 2 each.
    assert losses["loss_cls"].item() == pytest.approx((0.25 + 19 * 0.75) * 0.25 * math.log(2))


def test_ignored_positions_do_not_count(model):
    gt = torch.full((1, 2, 4), torch.nan)
    boxes, scores = torch.zeros(1, 2, 4), torch.zeros(1, 2, 10)
    with EventStorage():
        losses = model.losses(positions((0, 0), (8, 0)), scores, boxes, boxes, gt, gt, torch.tensor([[-1, -1]]))
    assert [loss.item() for loss in losses.values()] == [0, 0, 0]


def test_positions_lie_on_the_top_left_pixel_of_their_cell(model):
    features = [torch.zeros(1, 64, size, size) for size in (4, 2, 1)]
    p3, p4, p5 = (boxes.get_centers().tolist() for boxes in model.anchor_generator(features))
    assert p3[:2] == [[0, 0], [8, 0]] and p3[4] == [0, 8] and p4[1] == [16, 0] and p5 == [[0, 0]]


def test_points_are_decoded_as_y_x(model):
    points = torch.zeros(1, 18, 1, 1)
    points[:, 0::2] = torch.arange(9.0).view(1, 9, 1, 1)  # y from 0 to 8, x 0
    model.points_to_boxes.transform = "minmax"
    _, boxes, _ = model._decode(([torch.zeros(1, 10, 1, 1)], [points], [points]))
    assert boxes[0].flatten().tolist() == [0, 0, 0, 8]


def test_head_deforms_by_the_first_stage():
    """First-stage points on the regular grid make the deformable convolution a plain one."""
    options = dict(input_shape=[ShapeSpec(channels=32)], num_classes=2, conv_dims=[32], point_conv_dim=8)
    head, published = RepPointsHead(**options, start_on_grid=True), RepPointsHead(**options)
    feature = torch.randn(1, 32, 6, 6)
    torch.nn.init.zeros_(head.points_init[1].weight)
    with torch.no_grad():
        scores, init, _ = head([feature])
        tower = head.cls_subnet(feature)
        plain = torch.nn.functional.conv2d(tower, head.cls_conv.weight, padding=1).relu()
    torch.testing.assert_close(scores[0], head.cls_score(plain))
    torch.testing.assert_close(init[0][0, :, 2, 3], head.grid.flatten())
    assert not published.points_init[1].bias.any()


def test_second_stage_sends_the_first_no_direct_gradient():
    head = RepPointsHead(input_shape=[ShapeSpec(channels=32)], num_classes=2, conv_dims=[32], gradient_mul=0.0)
    refine = head([torch.randn(1, 32, 6, 6)])[2][0]
    refine.sum().backward()
    assert head.points_init[1].weight.grad.abs().max() == 0
    assert head.points_refine.weight.grad.abs().max() > 0


def test_number_of_points_is_an_odd_square():
    for number in (1, 8, 16):
        with pytest.raises(ValueError, match=f"num_points is {number}: it must be the square of an odd number"):
            RepPointsHead(input_shape=[ShapeSpec(channels=32)], num_classes=2, num_points=number)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_learns_a_batch_and_finds_its_objects(model, precision):
    batch = tiny.batch()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    history = []
    for _ in range(60):
        with EventStorage(), torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append(sum(losses.values()).item())
    assert history[-1] < 0.3 * history[0]
    model.eval()
    with torch.no_grad():
        detections = model(batch)[0]["instances"]
    assert len(detections) <= 100 and detections.image_size == (96, 96)
    assert detections.scores[0] == detections.scores.max() > 0.2


def test_image_without_objects_trains_every_parameter(model):
    """DistributedDataParallel wants all of them to take part."""
    batch = tiny.batch(images=1)
    batch[0]["instances"] = objects([], [], size=(96, 96))
    with EventStorage():
        losses = model(batch)
    assert losses["loss_cls"] > 0 and losses["loss_points_init"] == losses["loss_points_refine"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
