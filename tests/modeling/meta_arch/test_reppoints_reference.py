"""RepPoints against values of the original: assignment, losses, gradients, detections and initial weights."""

import json

import numpy as np
import pytest
import torch
from cankd.modeling.backbone import NormedFPN
from cankd.modeling.meta_arch import MaxIoUMatcher, PointAssigner, PointsToBoxes, RepPoints, RepPointsHead
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

from tests.initial_weights import assert_start, rename
from tests.references import reference

STAGES = ("class_logits", "initial_points", "refined_points")
IGNORED, INVALID = -2, -3


class Levels(Backbone):
    """Says which levels there are; features are none of these tests' business."""

    size_divisibility = 32

    def __init__(self, strides, channels=None):
        super().__init__()
        self._out_features = [f"p{level}" for level in range(len(strides))]
        self._out_feature_strides = dict(zip(self._out_features, strides))
        self._out_feature_channels = dict(zip(self._out_features, channels or [None] * len(strides)))

    def forward(self, image):
        raise NotImplementedError


def detector(values, **options):
    model = RepPoints(
        backbone=Levels(values["strides"].tolist()),
        head=None,
        num_classes=values["num_classes"].item(),
        points_to_boxes=PointsToBoxes("moment"),
        point_assigner=PointAssigner(),
        box_matcher=MaxIoUMatcher([0.4, 0.5], [0, -1, 1], match_unmet=True),
        pixel_mean=[0.0],
        pixel_std=[1.0],
        **options,
    ).double()
    model.points_to_boxes.log_scale.data.copy_(torch.as_tensor(values["moment_log_scale"]))
    return model


def load(name):
    return dict(np.load(reference(name)))


def tensors(values, name):
    """Returns the maps of a name, a level each, in double precision."""
    levels = range(len(values["strides"]))
    return [torch.as_tensor(values[f"{name}_{level}"]).double() for level in levels]


def objects(values, index, image_size):
    boxes, classes = (torch.as_tensor(values[f"{name}_{index}"]) for name in ("boxes", "classes"))
    return Instances(image_size, gt_boxes=Boxes(boxes.double().view(-1, 4)), gt_classes=classes.long())


def images(values):
    sizes = [tuple(size) for size in values["image_sizes"].tolist()]
    return ImageList(torch.zeros(len(sizes), 1, *values["batch_size"]), sizes)


def loss_cases():
    values = load("reppoints_losses.npz")
    for case in values["cases"].tolist():
        shared = {key: value for key, value in values.items() if "/" not in key}
        own = {key.removeprefix(f"{case}/"): value for key, value in values.items() if key.startswith(f"{case}/")}
        yield case, {**shared, **own}


def indices(boxes, gt, default):
    """Returns which object each of ``(R, 4)`` boxes is, and the default where there is none."""
    same = (boxes[:, None] == gt.gt_boxes.tensor).all(dim=2)  # (R, G)
    return [row.nonzero()[0].item() if row.any() else default for row in same]


def test_objects_equal_reference():
    for case, values in loss_cases():
        model, batch = detector(values), images(values)
        maps = tensors(values, "initial_points")
        positions = Boxes.cat(model.anchor_generator(maps)).tensor
        points = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)  # (N, R, 18)
        boxes_init = model.points_to_boxes(points.unflatten(-1, (-1, 2)).flip(-1))
        for index, size in enumerate(batch.image_sizes):
            boxes = model.box2box_transform.apply_deltas(boxes_init[index].detach(), positions)
            expected = torch.as_tensor(values["first_stage_boxes"][index]).double()
            torch.testing.assert_close(boxes, expected, rtol=0, atol=1e-4)
            gt = objects(values, index, size)
            init, refine, classes = model.label_positions(positions, boxes, gt, size)
            first, second = (values[f"{stage}_stage_object"][index].tolist() for stage in ("first", "second"))
            assert indices(init, gt, -1) == [max(i, -1) for i in first], case
            assert indices(refine, gt, -1) == [max(i, -1) for i in second], case
            names = {-1: model.num_classes, IGNORED: -1, INVALID: -1, **dict(enumerate(gt.gt_classes.tolist()))}
            assert classes.tolist() == [names[i] for i in second], case
            invalid = ~values["valid_positions"][index]
            assert (classes[invalid] == -1).all() and [i == INVALID for i in second] == invalid.tolist()


def test_losses_and_gradients_equal_reference():
    for case, values in loss_cases():
        model, batch = detector(values), images(values)
        predictions = [[x.requires_grad_() for x in tensors(values, name)] for name in STAGES]
        gt = [objects(values, index, size) for index, size in enumerate(batch.image_sizes)]
        with EventStorage():
            losses = model.forward_training(batch, predictions[0], predictions, gt)
        for ours, name in zip(("cls", "points_init", "points_refine"), ("class", "initial_points", "refined_points")):
            assert losses[f"loss_{ours}"].item() == pytest.approx(values[f"{name}_loss"], rel=1e-6), (case, name)
        sum(losses.values()).backward()
        norms = [[x.grad.norm().item() for x in stage] for stage in predictions]
        np.testing.assert_allclose(norms, values["gradient_norms"], rtol=1e-6, atol=1e-12, err_msg=case)
        np.testing.assert_allclose(
            model.points_to_boxes.log_scale.grad, values["moment_log_scale_gradient"], rtol=1e-6, err_msg=case
        )


def test_detections_equal_reference():
    values = load("reppoints_inference.npz")
    # torchvision's suppression wants single precision.
    scores, points = ([x.float() for x in tensors(values, name)] for name in ("class_logits", "refined_points"))
    for setting in values["settings"].tolist():
        model = detector(
            values,
            test_score_thresh=values["score_threshold"].item(),
            test_nms_thresh=values["nms_iou_threshold"].item(),
            test_topk_candidates=values[f"{setting}/candidates_per_level"].item(),
            max_detections_per_image=values[f"{setting}/kept_per_image"].item(),
        ).float()
        with torch.no_grad():
            detections = model.forward_inference(images(values), scores, (scores, points, points))
        for index, found in enumerate(detections):
            ours = {"boxes": found.pred_boxes.tensor, "scores": found.scores, "classes": found.pred_classes}
            for name, value in ours.items():
                np.testing.assert_allclose(value, values[f"{setting}/{name}_{index}"], rtol=1e-5, atol=1e-4)


HEAD_NAMES = {
    "moment_transfer": "log_scale",
    ".conv.": ".",
    ".gn.": ".norm.",
    "cls_convs.": "cls_subnet.",
    "reg_convs.": "points_subnet.",
    "reppoints_cls_out": "cls_score",
    "reppoints_pts_init_conv": "points_init.0",
    "reppoints_pts_init_out": "points_init.1",
    "reppoints_pts_refine_out": "points_refine",
    "reppoints_pts_": "points_",
    "reppoints_": "",
}
FPN_NAMES = {
    ".gn.": ".norm.",
    ".conv.": ".",
    "fpn_convs.3": "top_block.p6",
    "fpn_convs.4": "top_block.p7",
    **{f"lateral_convs.{i}.": f"fpn_lateral{i + 3}." for i in range(3)},
    **{f"fpn_convs.{i}.": f"fpn_output{i + 3}." for i in range(3)},
}


@pytest.mark.parametrize("norm", ["with_group_norm", "without_norm"])
def test_initial_weights_equal_reference(norm):
    table = json.loads(reference("reppoints_initialisation.json").read_text())
    settings, norm_name = table["settings"], "GN" if norm == "with_group_norm" else ""
    head = RepPointsHead(
        input_shape=[ShapeSpec(channels=settings["in_channels"])],
        num_classes=settings["num_classes"],
        conv_dims=[settings["feature_channels"]] * settings["stacked_convolutions"],
        point_conv_dim=settings["point_feature_channels"],
        num_points=settings["num_points"],
        norm=norm_name,
    )
    parameters = {**dict(head.named_parameters()), **dict(PointsToBoxes("moment").named_parameters())}
    assert_start(parameters, rename(table[f"reppoints_head_{norm}"], HEAD_NAMES))
    table = table[f"reppoints_fpn_{norm}"]
    channels = [
        entry["shape"][1] for name, entry in table.items() if name.endswith("conv.weight") and "lateral" in name
    ]
    fpn = NormedFPN(
        bottom_up=Levels([8, 16, 32], channels),
        in_features=["p0", "p1", "p2"],
        out_channels=settings["fpn_channels"],
        norm=norm_name,
    )
    assert_start(dict(fpn.named_parameters()), rename(table, FPN_NAMES))
