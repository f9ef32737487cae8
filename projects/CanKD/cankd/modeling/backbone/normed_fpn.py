from collections.abc import Sequence

from detectron2.layers import Conv2d, get_norm
from detectron2.modeling.backbone import FPN, Backbone
from torch import Tensor, nn

__all__ = ["NormedFPN"]


class NormedFPN(FPN):
    """Feature pyramid with norms in all its convolutions and no activations, as RepPoints has it (Yang et al. 2019).

    It adds two levels, P6 from the backbone's last feature and P7 from P6. Detectron2's ``LastLevelP6P7`` does that
    without norms and with a ReLU in between; the names of the parameters are the same. Weights start uniform in
    ±√(6 / (fan_in + fan_out)).
    """

    def __init__(self, *, bottom_up: Backbone, in_features: Sequence[str], out_channels: int, norm: str = "GN"):
        """
        Args:
            bottom_up: gives a dict of features.
            in_features: names of the features that the pyramid is built on, the finest first.
            out_channels: of every level.
            norm: of the convolutions, which have a bias if it is "".
        """
        in_channels = bottom_up.output_shape()[in_features[-1]].channels
        top_block = _LastLevelP6P7(in_channels, out_channels, in_features[-1], norm)
        super().__init__(bottom_up, in_features, out_channels, norm=norm, top_block=top_block)
        for conv in (*self.lateral_convs, *self.output_convs, top_block.p6, top_block.p7):
            nn.init.xavier_uniform_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


class _LastLevelP6P7(nn.Module):
    num_levels = 2

    def __init__(self, in_channels, out_channels, in_feature, norm):
        super().__init__()
        self.in_feature = in_feature
        common = dict(kernel_size=3, stride=2, padding=1, bias=not norm)
        self.p6 = Conv2d(in_channels, out_channels, norm=get_norm(norm, out_channels), **common)
        self.p7 = Conv2d(out_channels, out_channels, norm=get_norm(norm, out_channels), **common)

    def forward(self, feature: Tensor) -> list[Tensor]:
        p6 = self.p6(feature)
        return [p6, self.p7(p6)]
