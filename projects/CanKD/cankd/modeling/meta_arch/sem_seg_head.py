from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from cankd.utils import UserError
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn

__all__ = ["PyramidPooling", "SemSegHead", "conv_norm_relu"]


class SemSegHead(nn.Module):
    """Segmentation head on one feature map, for Detectron2's ``SemanticSegmentor``: context, then classification.

    The context makes it a PSPNet (:class:`PyramidPooling`), a DeepLabV3 (``detectron2.layers.ASPP``) or an FCN (a 3×3
    convolution). Another head on an earlier level may help it train (Zhao et al. 2017, Sec. 3.3).
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
            loss_name, loss_weight: of the cross entropy.
            auxiliary: another head, used in training only; its loss needs a name of its own.

        Raises:
            UserError: if the label to ignore is a class.
        """
        super().__init__()
        if 0 <= ignore_value < num_classes:
            raise UserError(f"ignore_value is {ignore_value}, which is one of the {num_classes} classes: use 255")
        self.in_feature = in_feature
        self.stride = stride
        self.context = context
        self.dropout = nn.Dropout2d(dropout)
        self.predictor = Conv2d(context_channels, num_classes, kernel_size=1)
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.loss_name = loss_name
        self.loss_weight = loss_weight
        self.auxiliary = auxiliary

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """
        Args:
            features: by level, ``(N, C, H, W)``.
            targets: labels, ``(N, stride × H, stride × W)``, int64.

        Returns:
            In training, None and the losses. In evaluation, scores ``(N, num_classes, stride × H, stride × W)`` and an
            empty dict.
        """
        scores = self.predictor(self.dropout(self.context(features[self.in_feature]))).float()
        scores = F.interpolate(scores, scale_factor=self.stride, mode="bilinear", align_corners=False)
        if not self.training:
            return scores, {}
        loss = F.cross_entropy(scores, targets, ignore_index=self.ignore_value, reduction="sum")
        loss = loss / (targets != self.ignore_value).sum().clamp(min=1)  # all may be ignored
        losses = {self.loss_name: self.loss_weight * loss}
        if self.auxiliary is not None:
            losses.update(self.auxiliary(features, targets)[1])
        return None, losses


class PyramidPooling(nn.Module):
    """Pyramid pooling of PSPNet (Zhao et al. 2017, Fig. 3): the map, pooled to several sizes and put together."""

    def __init__(self, in_channels: int, out_channels: int, *, sizes: Sequence[int] = (1, 2, 3, 6), norm: str = "BN"):
        """
        Args:
            in_channels, out_channels: of the feature and of the result; each pooled map has the latter, too.
            sizes: of the pooled maps.
            norm: of the convolutions. One that looks at the batch needs two images or more where a size is 1.
        """
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), conv_norm_relu(in_channels, out_channels, 1, norm))
            for size in sizes
        )
        self.bottleneck = conv_norm_relu(in_channels + len(sizes) * out_channels, out_channels, 3, norm)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H, W)``."""
        size = feature.shape[2:]
        pooled = [
            F.interpolate(branch(feature), size=size, mode="bilinear", align_corners=False) for branch in self.branches
        ]
        return self.bottleneck(torch.cat((feature, *pooled), dim=1))


def conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int, norm: str = "BN") -> Conv2d:
    """Returns a convolution that keeps the size, with norm and ReLU: the context of an FCN head."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
