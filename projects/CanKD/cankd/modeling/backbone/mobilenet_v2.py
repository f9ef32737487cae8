import functools
from collections.abc import Sequence

from cankd.utils import UserError
from detectron2.layers import get_norm
from detectron2.modeling import Backbone
from torch import Tensor
from torchvision.models import mobilenet_v2

from .dilation import check_output_stride, turn_stride_into_dilation

__all__ = ["MobileNetV2"]

# Expansion, channels, blocks and stride of each layer (Sandler et al. 2018, Table 2).
LAYERS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# Level: index of its last block in torchvision's ``features``, stride without dilation.
LEVELS = {"res2": (3, 4), "res3": (6, 8), "res4": (13, 16), "res5": (17, 32)}


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 without its classifier, as a backbone (Sandler et al. 2018, Table 2).

    Where strides become dilations, only the first block of a layer is dilated, as in the published recipes. Levels are
    named by the ResNet stages of the same stride. The state-dict keys are torchvision's.
    """

    def __init__(
        self,
        *,
        out_features: Sequence[str] = ("res5",),
        output_stride: int = 8,
        width_mult: float = 1.0,
        norm: str = "BN",
    ):
        """
        Args:
            out_features: names of levels, of res2 to res5.
            output_stride: of the coarser levels, in input pixels: 8, 16 or 32; strides beyond become dilations.
            width_mult: multiplies the channels of all layers.
            norm: "BN", "SyncBN", or another that Detectron2 knows.

        Raises:
            UserError: if there is no such level, or no such stride.
        """
        check_output_stride(output_stride)
        super().__init__()
        if not out_features or not set(out_features) <= LEVELS.keys():
            raise UserError(f"out_features is {list(out_features)}: name some of {', '.join(LEVELS)}")
        depth = 1 + max(LEVELS[level][0] for level in out_features)
        layers, dilations = _dilate(output_stride)
        norm_layer = functools.partial(get_norm, norm)
        network = mobilenet_v2(width_mult=width_mult, inverted_residual_setting=layers, norm_layer=norm_layer)
        self.features = network.features[:depth]
        for block, dilation in dilations.items():
            turn_stride_into_dilation(self.features[block : block + 1], dilation)
        self._out_features = list(out_features)
        self._out_feature_channels = {level: self.features[LEVELS[level][0]].out_channels for level in out_features}
        self._out_feature_strides = {level: min(LEVELS[level][1], output_stride) for level in out_features}
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


def _dilate(output_stride):
    """Returns the layers with the strides that are left, and dilations by index of the block."""
    stride, block = 2, 1  # behind the first convolution
    layers, dilations = [], {}
    for *shape, blocks, layer_stride in LAYERS:
        stride *= layer_stride
        layers.append([*shape, blocks, 1 if stride > output_stride else layer_stride])
        dilations[block] = stride // output_stride
        block += blocks
    return layers, {block: dilation for block, dilation in dilations.items() if dilation > 1}
