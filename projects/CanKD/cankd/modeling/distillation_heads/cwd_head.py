import torch.nn.functional as F
from torch import Tensor

from .checks import check_positions, check_temperature
from .distillation_head import DistillationHead, StepContext

__all__ = ["CWDHead"]


class CWDHead(DistillationHead):
    """CWD, channel-wise distillation: each channel is a distribution over positions (Shu et al., ICCV 2021).

    With ``P(x) = softmax_p(x / τ)`` over the positions of each image and channel, the loss is
    ``weight * τ² / (N C) * sum_{n,c} KL(P(t)_nc ‖ P(s)_nc)``. It takes features and maps of logits alike.

    Published settings:

    ===========================================  ======  ===  ================================================
    pair                                         weight  τ    levels
    ===========================================  ======  ===  ================================================
    PSPNet-R18 ← R101, TorchDistiller            3       4    logits (so in MGD's segmentation)
    PSPNet-R18 ← R101, mmrazor                   5       1    logits
    RetinaNet-R50 ← X101                         5       1    P3–P6
    RetinaNet, Faster R-CNN R50 ← R101, mmrazor  10      1    all outputs of the FPN: P3–P7, P2–P6
    ===========================================  ======  ===  ================================================

    Where channels differ, the adapter is a 1×1 convolution, and C is the teacher's. (Two of the published codes divide
    by the student's. TorchDistiller's adapter for features ends in a batch norm and a ReLU.)
    """

    name = "cwd"
    needs_maps = True

    def __init__(self, *, weight: float = 5.0, temperature: float = 1.0, **kwargs):
        """
        Args:
            weight: factor of the loss, at least 0.
            temperature: τ, what the features are divided by.
            kwargs: ``levels``, ``in_channels``, ``student_channels``, ``seed``, see :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        check_temperature(temperature)
        super().__init__(weight=weight, **kwargs)
        self.temperature = temperature

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> Tensor:
        """See :meth:`DistillationHead.compare`.

        Raises:
            UserError: if the two are no maps of one size, or have one position alone.
        """
        check_positions("CWD", level, student, teacher)
        batch, channels = student.shape[:2]
        student, teacher = ((x.flatten(2) / self.temperature).log_softmax(2) for x in (student, teacher))  # (N, C, HW)
        divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
        return self.temperature**2 * divergence / (batch * channels)
