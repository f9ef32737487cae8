from collections import OrderedDict

from torch import Tensor, nn

from .bottleneck import Bottleneck

__all__ = ["NoiseAdapter"]


class NoiseAdapter(nn.Module):
    """Finds how much noise a student's feature lacks to be a noisy feature of the teacher (DiffKD, adaptive noise).

    It gives one number γ an image, between 0 and 1: the feature's share in the mixture with noise that is denoised.
    """

    def __init__(self, *, channels: int, logits: bool = False):
        """
        Args:
            channels: C of the feature.
            logits: whether the features are logits, ``(N, C, 1, 1)``, which have no neighbours.
        """
        super().__init__()
        self.block = _perceptron(channels) if logits else Bottleneck(channels=channels, reduction=8)
        self.linear = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: the student's feature, ``(N, C, H, W)``.

        Returns:
            The weights γ, ``(N,)``.
        """
        pooled = self.block(x).mean((2, 3))
        return self.linear(pooled).softmax(1)[:, 0]


def _perceptron(channels):
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 2 * channels, 1),
            norm1=nn.BatchNorm2d(2 * channels),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(2 * channels, channels, 1),
            norm2=nn.BatchNorm2d(channels),
        )
    )
