import torch
import torch.nn.functional as F
from cankd.modeling.levels import LevelPair
from cankd.utils import UserError
from torch import Tensor

from .distillation_head import DistillationHead, StepContext
from .level_dict import LevelDict
from .masked_generator import MaskedGenerator

__all__ = ["MGDHead"]


class MGDHead(DistillationHead):
    """MGD: masked generative distillation (Yang et al., ECCV 2022).

    With student s, teacher t and a random mask m, drawn anew for each level and step, the loss of N images is
    ``weight * sum((G(m s) - t)^2) / N``. G is a :class:`MaskedGenerator`. The whole of t is the target, not only what
    was masked. The sum runs over C, H and W: it grows with the image.

    ============================  ======  ===============  =========================  ========
    published                     weight  masked_fraction  levels                     inherits
    ============================  ======  ===============  =========================  ========
    RetinaNet, RepPoints          2e-5    0.65             P3–P7                      yes
    Cascade → Faster, Mask R-CNN  5e-7    0.45             P2–P5                      no
    PSPNet-R18, DeepLabV3-R18     2e-5    0.75             the backbone's last stage  no
    ResNet-18, MobileNetV1        7e-5    0.15, channels   the backbone's last stage  no
    ============================  ======  ===============  =========================  ========

    Those who inherit (†) start from the teacher's neck and head. FCOS is not published; the other one-stage values are
    the natural choice. Segmentation adds CWD on the logits (temperature 4, weight 3), see :class:`SumOfHeads`. In
    classification the published code leaves the teacher in training mode; ours is always in evaluation mode.
    """

    name = "mgd"
    needs_maps = True

    def __init__(self, *, weight: float = 2e-5, masked_fraction: float = 0.65, mask_channels: bool = False, **kwargs):
        """
        Args:
            weight: the paper's α, at least 0.
            masked_fraction: the paper's λ, the share that is masked, at least 0 and below 1.
            mask_channels: whether whole channels are masked, as in classification, and not positions.
            kwargs: ``levels``, ``in_channels``, ``student_channels``, ``seed``, see :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        super().__init__(weight=weight, **kwargs)
        if not 0 <= masked_fraction < 1:
            raise UserError(f"masked_fraction is {masked_fraction}; it has to be at least 0 and below 1")
        self.masked_fraction = masked_fraction
        self.mask_channels = mask_channels
        self.masked_generator = LevelDict()

    def build_level(self, pair: LevelPair) -> None:
        """See :meth:`DistillationHead.build_level`."""
        self.masked_generator[pair.student] = MaskedGenerator(pair.teacher_channels)

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> Tensor:
        """See :meth:`DistillationHead.compare`."""
        generated = self.masked_generator[level](self.draw_mask(student) * student)
        return F.mse_loss(generated, teacher, reduction="sum") / len(student)

    def draw_mask(self, x: Tensor) -> Tensor:
        """Draws what is kept, 1, and what is masked, 0.

        Args:
            x: the feature to mask, ``(N, C, H, W)``.

        Returns:
            ``(N, 1, H, W)``, or ``(N, C, 1, 1)`` where channels are masked, of the feature's type.
        """
        count, channels, height, width = x.shape
        shape = (count, channels, 1, 1) if self.mask_channels else (count, 1, height, width)
        uniform = torch.rand(shape, generator=self.generator(x.device), device=x.device)
        return (uniform >= self.masked_fraction).to(x.dtype)
