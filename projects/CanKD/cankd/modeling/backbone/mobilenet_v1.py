from collections.abc import Sequence

from cankd.utils import UserError
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

__all__ = ["MobileNetV1"]

# Channels of each separable convolution by level, at full width (Howard et al. 2017, Table 1). From res2 on, the first
# of a level has stride 2.
LEVELS = {"res1": (64,), "res2": (128, 128), "res3": (256, 256), "res4": (512,) * 6, "res5": (1024, 1024)}


class MobileNetV1(Backbone):
    """MobileNetV1 without its classifier, of any width; timm has the full one only (Howard et al. 2017, Table 1).

    Levels are named by the ResNet stages of the same stride; "res1" has stride 2.
    """

    def __init__(self, *, out_features: Sequence[str] = ("res5",), width_mult: float = 1.0):
        """
        Args:
            out_features: names of levels, of res1 to res5.
            width_mult: multiplies the channels of all layers.

        Raises:
            UserError: if there is no such level.
        """
        super().__init__()
        if not out_features or not set(out_features) <= LEVELS.keys():
            raise UserError(f"out_features is {list(out_features)}: name some of {', '.join(LEVELS)}")
        self._out_features = [level for level in LEVELS if level in out_features]
        self._out_feature_channels, self._out_feature_strides = {}, {}
        channels, stride = round(32 * width_mult), 2
        self.stem = _convolution(3, channels, kernel_size=3, stride=2)
        self.levels = nn.ModuleDict()
        for level, widths in LEVELS.items():
            layers = []
            for i, width in enumerate(widths):
                layer_stride = 2 if i == 0 and level != "res1" else 1
                layers.append(_convolution(channels, channels, kernel_size=3, stride=layer_stride, groups=channels))
                layers.append(_convolution(channels, round(width * width_mult), kernel_size=1))
                channels, stride = round(width * width_mult), stride * layer_stride
            self.levels[level] = nn.Sequential(*layers)
            self._out_feature_channels[level], self._out_feature_strides[level] = channels, stride
            if level == self._out_features[-1]:
                break

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Maps images ``(N, 3, H, W)`` to features by level, ``(N, C, H / stride, W / stride)``."""
        x = self.stem(image)
        features = {}
        for level, layers in self.levels.items():
            features[level] = x = layers(x)
        return {level: features[level] for level in self._out_features}


def _convolution(in_channels, out_channels, **kwargs):
    """Returns a convolution with batch normalisation and ReLU6."""
    layer = Conv2dNormActivation(in_channels, out_channels, activation_layer=nn.ReLU6, **kwargs)
    nn.init.kaiming_normal_(layer[0].weight, mode="fan_out")
    return layer
