import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MaskedGenerator"]


class MaskedGenerator(nn.Module):
    """Completes a masked feature by what surrounds the gaps: ``conv2(ReLU(conv1(x)))`` (MGD, Sec. 3; ViTKD, Sec. 3).

    Both convolutions are 3×3 with bias and start as PyTorch starts them.
    """

    def __init__(self, channels: int):
        """
        Args:
            channels: C of input and output, those of the teacher.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: ``(N, C, H, W)``, zero or replaced where it is masked.

        Returns:
            What the teacher's feature should be, ``(N, C, H, W)``.
        """
        return self.conv2(F.relu(self.conv1(x)))
