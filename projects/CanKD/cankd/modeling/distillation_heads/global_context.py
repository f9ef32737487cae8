import math

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GlobalContext"]


class GlobalContext(nn.Module):
    """What a global-context block (GCNet; Cao et al., ICCV Workshops 2019) adds to each position of a feature.

    ``expand(ReLU(LN(reduce(sum_p x_p softmax_p(mask(x))_p))))``, 0 at first, since ``expand`` starts at zero.
    """

    def __init__(self, channels: int):
        """
        Args:
            channels: C of the feature, halved within.
        """
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, 1)
        self.reduce = nn.Conv2d(channels, channels // 2, 1)
        self.norm = nn.LayerNorm([channels // 2, 1, 1])
        self.expand = nn.Conv2d(channels // 2, channels, 1)
        nn.init.normal_(self.mask.weight, std=math.sqrt(2 / channels))
        for parameter in (self.mask.bias, self.expand.weight, self.expand.bias):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: ``(N, C, H, W)``.

        Returns:
            The same for all positions, ``(N, C, 1, 1)``.
        """
        attention = self.mask(x).flatten(2).softmax(2)  # (N, 1, HW)
        context = (x.flatten(2) @ attention.mT).unsqueeze(3)  # (N, C, 1, 1)
        return self.expand(F.relu(self.norm(self.reduce(context))))
