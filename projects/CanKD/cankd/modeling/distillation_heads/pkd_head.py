import torch
import torch.nn.functional as F
from cankd.utils import TooSmallError
from torch import Tensor

from .distillation_head import DistillationHead, StepContext

__all__ = ["PKDHead"]


class PKDHead(DistillationHead):
    """PKD: imitation up to the mean and scale of each channel, by Pearson's correlation (Cao et al., NeurIPS 2022).

    With ``z(x)_c = (x_c - mean_c) / (std_c + 1e-6)``, mean and unbiased standard deviation over all N·H·W values of a
    channel, the loss is ``weight * mean((z(s) - z(t))²) / 2``. Up to rounding it is ``weight * mean_c (1 - r_c)``, r_c
    being the correlation over images and positions. The statistics are those of one GPU's images.

    Published settings, with the student's levels:

    ================================================  ======  ======
    pair                                              weight  levels
    ================================================  ======  ======
    Faster R-CNN R50 ← R101                           6       P2–P5
    RetinaNet R50 ← Mask R-CNN Swin-S (its P2–P5)     6       P3–P6
    RetinaNet R50 ← X101, RetinaNet R50 ← FCOS X101   10      P3–P6
    RepPoints R50 ← X101                              10      P3–P6
    ================================================  ======  ======

    Published pairs have equal channels. Where they differ, a 1×1 convolution comes first. The published code resizes
    only where the heights differ and fails where the widths alone do; here both count.
    """

    name = "pkd"
    needs_maps = True

    def __init__(self, *, weight: float = 6.0, resize_student: bool = True, **kwargs):
        """
        Args:
            weight: factor of the loss, at least 0.
            resize_student: which map is resized, bilinearly, where the two differ in size: the student's to the
                teacher's, or the teacher's to the student's. A :class:`cankd.modeling.Distiller` leaves no such
                difference: it has resized the student's.
            kwargs: ``levels``, ``in_channels``, ``student_channels``, ``seed``, see :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        super().__init__(weight=weight, **kwargs)
        self.resize_student = resize_student

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> Tensor:
        """See :meth:`DistillationHead.compare`; the sizes may differ.

        Raises:
            TooSmallError: if there is one value a channel alone.
        """
        if self.resize_student:
            student = _resize(student, teacher)
        else:
            teacher = _resize(teacher, student)
        if student[:, 0].numel() < 2:
            raise TooSmallError(
                f"level {level!r} is 1×1 of one image, but PKD needs at least 2 values a channel: train on larger "
                "images or with more images a GPU, or leave the level out of head.levels"
            )
        return F.mse_loss(_standardize(student), _standardize(teacher)) / 2


def _resize(x, like):
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, like.shape[2:], mode="bilinear")


def _standardize(x):
    std, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True)
    return (x - mean) / (std + 1e-6)
