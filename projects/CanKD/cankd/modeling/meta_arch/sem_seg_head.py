from collections.abc import Mapping

import torch.nn.functional as F
from cankd.utils import UserError
from detectron2.layers import Conv2d
from fvcore.nn import weight_init
from torch import Tensor, nn

__all__ = ["SemSegHead"]


class SemSegHead(nn.Module):
    """Segmentation head on one feature map, for Detectron2's ``SemanticSegmentor``: context, then classification.

    The context makes it a PSPNet (:class:`PyramidPooling`), a DeepLabV3 (:class:`ASPP`) or an FCN (a 3×3 convolution).
    Another head on an earlier level may help it train (Zhao et al. 2017, Sec. 3.3).
    """

    def __init__(
        self,
        *,
        in_feature: str,
        stride: int,
        context: nn.Module,
        context_channels: int,
        num_classes: int,
        dropout: float = 0.1,
        ignore_value: int = 255,
        published_start: bool = True,
        average_labelled: bool = False,
        loss_name: str = "loss_sem_seg",
        loss_weight: float = 1.0,
        auxiliary: "SemSegHead | None" = None,
    ):
        """
        Args:
            in_feature: the backbone's level that the head sees.
            stride: of this level, in input pixels; scores are scaled up by it.
            context: maps this feature to one of ``context_channels`` channels and the same size.
            context_channels: see above.
            num_classes: of the predictions.
            dropout: share of the context's channels that are dropped in training.
            ignore_value: label that is not trained.
            published_start: whether the weights start as in the published segmentation recipes, normal with a standard
                deviation of √(2 / fan_out) in the context and 0.01 in the classifier, biases 0. Otherwise the context
                keeps its weights, and the classifier starts as torch's convolutions do: the 48 channels of Digit Scenes
                do not learn from 0.01 in 1,000 iterations. (The published 128 channels do, in 80,000.)
            average_labelled: whether the cross entropy is averaged over the pixels that have a label. By default it is
                averaged over all of them, as published: those to be ignored add nothing to the sum, but count.
            loss_name, loss_weight: of the cross entropy.
            auxiliary: another head, used in training only; its loss needs a name of its own.

        Raises:
            UserError: if the label to ignore is a class, or the auxiliary loss has this one's name.
        """
        super().__init__()
        if auxiliary is not None and auxiliary.loss_name == loss_name:
            raise UserError(f"both losses are named {loss_name!r}: give the auxiliary head another loss_name")
        if 0 <= ignore_value < num_classes:
            raise UserError(f"ignore_value is {ignore_value}, which is one of the {num_classes} classes: use 255")
        self.in_feature = in_feature
        self.stride = stride
        self.context = context
        self.dropout = nn.Dropout2d(dropout)
        self.predictor = Conv2d(context_channels, num_classes, kernel_size=1)
        if published_start:
            for module in context.modules():
                if isinstance(module, nn.Conv2d):
                    weight_init.c2_msra_fill(module)
            nn.init.normal_(self.predictor.weight, std=0.01)
            nn.init.zeros_(self.predictor.bias)
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.average_labelled = average_labelled
        self.loss_name = loss_name
        self.loss_weight = loss_weight
        self.auxiliary = auxiliary

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """
        Args:
            features: by level, ``(N, C, H, W)``.
            targets: labels, ``(N, stride × H, stride × W)``, int64, or less, where the backbone does not ask for images
                of a multiple of its stride.

        Returns:
            In training, None and the losses. In evaluation, scores ``(N, num_classes, stride × H, stride × W)`` and an
            empty dict.
        """
        scores = self.predictor(self.dropout(self.context(features[self.in_feature]))).float()
        scores = F.interpolate(scores, scale_factor=self.stride, mode="bilinear", align_corners=False)
        if not self.training:
            return scores, {}
        scores = scores[..., : targets.shape[-2], : targets.shape[-1]]
        loss = F.cross_entropy(scores, targets, ignore_index=self.ignore_value, reduction="sum")
        labelled = (targets != self.ignore_value).sum().clamp(min=1)  # all may be ignored
        count = labelled if self.average_labelled else targets.numel()
        losses = {self.loss_name: self.loss_weight * loss / count}
        if self.auxiliary is not None:
            losses.update(self.auxiliary(features, targets)[1])
        return None, losses
