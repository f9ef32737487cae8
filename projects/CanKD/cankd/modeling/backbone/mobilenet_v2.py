import functools
from collections.abc import Sequence

from cankd.utils import UserError
from detectron2.layers import get_norm
from detectron2.modeling import Backbone
from torch import Tensor
from torchvision.models import mobilenet_v2

from .dilation import turn_stride_into_dilation

__all__ = ["MobileNetV2"]

# Level: index of its last layer in torchvision's ``features``, channels, stride without dilation.
LEVELS = {"res2": (3, 24, 4), "res3": (6, 32, 8), "res4": (13, 96, 16), "res5": (17, 320, 32)}


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 without its classifier, as a backbone (Sandler et al. 2018, Table 2).

    Levels are named by the ResNet stages of the same stride. The state-dict keys are torchvision's.
    """

    def __init__(self, *, out_features: Sequence[str] = ("res5",), output_stride: int = 8, norm: str = "BN"):
        """
        Args:
            out_features: names of levels, of res2 to res5.
            output_stride: of the coarser levels, in input pixels: 8, 16 or 32; strides beyond become dilations.
            norm: "BN", "SyncBN", or another that Detectron2 knows.

        Raises:
            UserError: if there is no such level.
        """
        super().__init__()
        if not out_features or not set(out_features) <= LEVELS.keys():
            raise UserError(f"out_features is {list(out_features)}: name some of {', '.join(LEVELS)}")
        depth = 1 + max(LEVELS[level][0] for level in out_features)
        self.features = mobilenet_v2(norm_layer=functools.partial(get_norm, norm)).features[:depth]
        start = 0
        for last, _, stride in LEVELS.values():
            if stride > output_stride:
                # Stride 16 begins with layer 7, stride 32 with layer 14.
                turn_stride_into_dilation(self.features[start : last + 1], stride // output_stride)
            start = last + 1
        self._out_features = list(out_features)
        self._out_feature_channels = {level: LEVELS[level][1] for level in out_features}
        self._out_feature_strides = {level: min(LEVELS[level][2], output_stride) for level in out_features}
        self._size_divisibility = output_stride

    @property
    def size_divisibility(self) -> int:
        """Images are padded to multiples of the output stride, so that scores scaled up by it fit."""
        return self._size_divisibility

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Maps images ``(N, 3, H, W)`` to features by level, ``(N, C, H / stride, W / stride)``."""
        names = {LEVELS[level][0]: level for level in self._out_features}
        outputs = {}
        for index, layer in enumerate(self.features):
            image = layer(image)
            if index in names:
                outputs[names[index]] = image
        return outputs
