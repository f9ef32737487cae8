import torch.nn.functional as F
from torch import Tensor

from .checks import check_positions
from .distillation_head import DistillationHead, StepContext

__all__ = ["ATHead"]


class ATHead(DistillationHead):
    """AT, attention transfer: where the student is active is pulled to where the teacher is (Zagoruyko and Komodakis,
    ICLR 2017).

    With ``a(x)_p = mean_c x_cp²`` and q(x) = a(x) at unit length over the positions p of an image, the loss is
    ``weight * mean_{n,p} (q(s) - q(t))²``, as in the published code. Nothing is learned, and channels may differ.

    Published: weight (β) 1000, the outputs of all four residual groups (res2 to res5), for ResNet-18 ← 34 on ImageNet.
    The authors have no values for detection or segmentation. The mean is over one GPU's images; the published code adds
    those of several GPUs up, so its β grows with their number.
    """

    name = "at"
    needs_maps = True
    adapts_channels = False

    def __init__(self, *, weight: float = 1000.0, **kwargs):
        """
        Args:
            weight: β, at least 0.
            kwargs: ``levels``, ``in_channels``, ``student_channels``, ``seed``, see :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        super().__init__(weight=weight, **kwargs)

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> Tensor:
        """See :meth:`DistillationHead.compare`; the channels may differ.

        Raises:
            UserError: if the two are no maps of one size, or have one position alone.
        """
        check_positions("AT", level, student, teacher)
        return F.mse_loss(_attention(student), _attention(teacher))


def _attention(x):
    return F.normalize(x.square().mean(1).flatten(1))  # (N, HW)
