import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import batched_nms
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from fvcore.nn import sigmoid_focal_loss_jit, smooth_l1_loss
from torch import Tensor, nn

from .point_assigner import PointAssigner
from .points_to_boxes import PointsToBoxes

__all__ = ["RepPoints"]


class RepPoints(DenseDetector):
    """RepPoints (Yang et al. 2019): a detector whose objects are sets of points, regressed in two stages."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: Sequence[str] | None = None,
        num_classes: int,
        points_to_boxes: PointsToBoxes,
        point_assigner: PointAssigner,
        box_matcher: Matcher,
        point_base_scale: float = 4.0,
        loss_weight_init: float = 0.5,
        loss_weight_refine: float = 1.0,
        smooth_l1_beta: float = 0.11,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "BGR",
    ):
        """
        Args:
            backbone: gives a dict of features.
            head: a :class:`RepPointsHead`.
            head_in_features: names of the levels that the head sees; all of the backbone if not given.
            num_classes: without the background.
            points_to_boxes: gives the pseudo box of a set of points.
            point_assigner: says which points the first stage moves to which object.
            box_matcher: says, by the IoU of the first stage's pseudo boxes with the objects, which of them are objects
                (1), background (0) or ignored (-1) for classification and the second stage.
            point_base_scale: the regression losses take coordinates in units of this many strides.
            loss_weight_init, loss_weight_refine: of the two stages' regression losses.
            smooth_l1_beta: where these losses turn from quadratic to linear.
            focal_loss_alpha, focal_loss_gamma: of the classification loss.
            test_score_thresh, test_topk_candidates, test_nms_thresh, max_detections_per_image, pixel_mean, pixel_std:
                as :class:`detectron2.modeling.RetinaNet`.
            input_format: channel order of the images, "BGR" or "RGB".
        """
        super().__init__(backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.num_classes = num_classes
        self.points_to_boxes = points_to_boxes
        self.point_assigner = point_assigner
        self.box_matcher = box_matcher
        self.point_base_scale = point_base_scale
        self.loss_weight_init = loss_weight_init
        self.loss_weight_refine = loss_weight_refine
        self.smooth_l1_beta = smooth_l1_beta
        self.focal_loss_alpha = focal_loss_alpha
        self.focal_loss_gamma = focal_loss_gamma
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        self.input_format = input_format
        # A position of the feature map is a box around its top left pixel, as wide as the stride.
        strides = [backbone.output_shape()[level].stride for level in self.head_in_features]
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[stride] for stride in strides], aspect_ratios=[1.0], strides=strides, offset=0.0
        )
        self.box2box_transform = _BoxFromPosition()

    def forward_training(
        self, images: ImageList, features: list[Tensor], predictions: Sequence, gt_instances: list[Instances]
    ) -> dict[str, Tensor]:
        """Returns ``loss_cls``, ``loss_points_init`` and ``loss_points_refine``."""
        positions = Boxes.cat(self.anchor_generator(features)).tensor  # (R, 4)
        scores, init, refine = (torch.cat(outputs, dim=1) for outputs in self._decode(predictions))
        decode = self.box2box_transform.apply_deltas
        targets = [
            self.label_positions(positions, decode(boxes.detach(), positions), gt, image_size)
            for boxes, gt, image_size in zip(init, gt_instances, images.image_sizes)
        ]
        gt_init, gt_refine, classes = (torch.stack(target) for target in zip(*targets))  # (N, R, 4) twice, (N, R)
        return self.losses(positions, scores, init, refine, gt_init, gt_refine, classes)

    @torch.no_grad()
    def label_positions(
        self, positions: Tensor, boxes_init: Tensor, gt: Instances, image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Says what the positions of one image are to predict.

        Positions outside the image, which the padding to the batch's common size adds, are nobody's: they are not
        background either. What it takes to make the image's own size divisible counts as image.

        Args:
            positions: ``(R, 4)``, boxes of a stride's size around the positions.
            boxes_init: ``(R, 4)``, the first stage's pseudo boxes in pixels.
            gt: the objects.
            image_size: (height, width) without padding.

        Returns:
            The first and the second stage's boxes, ``(R, 4)``, NaN where there is nothing to regress; the classes,
            ``(R,)``, ``num_classes`` for the background, -1 to ignore.
        """
        divisor = max(self.backbone.size_divisibility, 1)
        height, width = (math.ceil(side / divisor) * divisor for side in image_size)
        x, y = Boxes(positions).get_centers().unbind(dim=1)
        inside = (x < width) & (y < height)
        gt_init, gt_refine = (torch.full_like(positions, torch.nan) for _ in range(2))
        classes = torch.full_like(inside, -1, dtype=torch.int64)
        labels = self._label_positions_inside(positions[inside], boxes_init[inside], gt)
        gt_init[inside], gt_refine[inside], classes[inside] = labels
        return gt_init, gt_refine, classes

    def _label_positions_inside(self, positions, boxes_init, gt):
        gt_boxes = gt.gt_boxes
        nothing = torch.full_like(positions, torch.nan)
        if len(gt) == 0:
            return nothing, nothing, self.num_classes
        strides = positions[:, 2] - positions[:, 0]
        assigned = self.point_assigner(Boxes(positions).get_centers(), strides, gt_boxes)
        gt_init = torch.where((assigned >= 0)[:, None], gt_boxes.tensor[assigned], nothing)
        matched, labels = self.box_matcher(pairwise_iou(gt_boxes, Boxes(boxes_init)))
        gt_refine = torch.where((labels == 1)[:, None], gt_boxes.tensor[matched], nothing)
        classes = gt.gt_classes[matched]
        classes[labels == 0] = self.num_classes
        classes[labels == -1] = -1
        return gt_init, gt_refine, classes

    def losses(
        self,
        positions: Tensor,
        scores: Tensor,
        init: Tensor,
        refine: Tensor,
        gt_init: Tensor,
        gt_refine: Tensor,
        classes: Tensor,
    ) -> dict[str, Tensor]:
        """Returns the losses, each divided by the number of positions that regress in its stage.

        An image without such positions counts as if it had one. Classification goes by the second stage.

        Args:
            positions: ``(R, 4)``.
            scores: ``(N, R, num_classes)``, before the sigmoid.
            init, refine: ``(N, R, 4)``, the two stages' pseudo boxes, in strides from the position.
            gt_init, gt_refine, classes: the labels of :meth:`label_positions`, stacked.
        """
        valid = classes >= 0
        foreground = valid & (classes != self.num_classes)
        get_event_storage().put_scalar("num_pos_positions", foreground.sum().item() / len(classes))
        one_hot = F.one_hot(classes[valid], self.num_classes + 1)[:, :-1]  # no column for the background
        loss_cls = sigmoid_focal_loss_jit(
            scores[valid],
            one_hot.to(scores.dtype),
            alpha=self.focal_loss_alpha,
            gamma=self.focal_loss_gamma,
            reduction="sum",
        )
        return {
            "loss_cls": loss_cls / _count(foreground),
            "loss_points_init": self.loss_weight_init * self._box_loss(init, gt_init, positions),
            "loss_points_refine": self.loss_weight_refine * self._box_loss(refine, gt_refine, positions),
        }

    def _box_loss(self, boxes, gt_boxes, positions):
        regressed = ~gt_boxes[..., 0].isnan()  # (N, R)
        positions = positions.expand_as(gt_boxes)[regressed]
        targets = self.box2box_transform.get_deltas(positions, gt_boxes[regressed])
        loss = smooth_l1_loss(
            boxes[regressed] / self.point_base_scale,
            targets / self.point_base_scale,
            beta=self.smooth_l1_beta,
            reduction="sum",
        )
        return loss / _count(regressed)

    def forward_inference(self, images: ImageList, features: list[Tensor], predictions: Sequence) -> list[Instances]:
        """Returns the detections of each image, in pixels of the input, after non-maximum suppression.

        Boxes are clipped to the image before they suppress each other.
        """
        positions = self.anchor_generator(features)
        scores, _, boxes = self._decode(predictions)
        results = []
        for i, image_size in enumerate(images.image_sizes):
            detections = self._decode_multi_level_predictions(
                positions,
                [x[i].sigmoid() for x in scores],
                [x[i] for x in boxes],
                self.test_score_thresh,
                self.test_topk_candidates,
                image_size,
            )
            detections.pred_boxes.clip(image_size)
            detections = detections[detections.pred_boxes.nonempty()]
            keep = batched_nms(
                detections.pred_boxes.tensor, detections.scores, detections.pred_classes, self.test_nms_thresh
            )
            results.append(detections[keep[: self.max_detections_per_image]])
        return results

    def _decode(self, predictions):
        """Returns, level by level, scores ``(N, H × W, num_classes)`` and the stages' boxes ``(N, H × W, 4)``."""
        num_coordinates = predictions[1][0].shape[1]
        scores, *stages = self._transpose_dense_predictions(
            predictions, [self.num_classes, num_coordinates, num_coordinates]
        )
        boxes = [[self.points_to_boxes(x.unflatten(-1, (-1, 2)).flip(-1)) for x in stage] for stage in stages]
        return scores, *boxes


def _count(chosen):
    """Returns the number of positions chosen of ``(N, R)``, but at least one an image."""
    return chosen.sum(dim=1).clamp(min=1).sum()


class _BoxFromPosition:
    """Boxes in strides from a position, which is itself a box around it, as wide as the stride."""

    def get_deltas(self, positions, boxes):
        center, stride = self._unpack(positions)
        return (boxes - center) / stride

    def apply_deltas(self, deltas, positions):
        center, stride = self._unpack(positions)
        return deltas * stride + center

    def _unpack(self, positions):
        return (Boxes(positions).get_centers().repeat(1, 2), (positions[:, 2] - positions[:, 0])[:, None])
