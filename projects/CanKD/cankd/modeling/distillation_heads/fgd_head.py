import torch
import torch.nn.functional as F
from cankd.modeling.levels import LevelPair
from cankd.utils import UserError
from torch import Tensor

from .attention_maps import channel_attention, spatial_attention
from .box_masks import box_masks
from .checks import check_term_weights
from .distillation_head import DistillationHead, StepContext
from .global_context import GlobalContext
from .level_dict import LevelDict

__all__ = ["FGDHead"]


class FGDHead(DistillationHead):
    """FGD: focal and global knowledge distillation for detectors (Yang et al., CVPR 2022).

    With student s, teacher t, attention A over positions and B over channels (:mod:`.attention_maps`), and the masks
    F of foreground and G of background (:func:`.box_masks`), the four terms of a batch of N images are::

        E = (s - t)^2 A(t) B(t)
        foreground = sum(E F) / N            background = sum(E G) / N
        attention = (sum |B(s) - B(t)| + sum |A(s) - A(t)|) / N
        relation = sum((R_s(s) - R_t(t))^2) / N

    R_s and R_t are the identity plus :class:`GlobalContext`, both trained. The sums run over C, H and W: what they
    give grows with the image.

    =======================  ===========  ===========================================  ======  =========
    published                temperature  foreground, background, attention, relation  levels  inherits
    =======================  ===========  ===========================================  ======  =========
    RetinaNet, GFL           0.5          1e-3, 5e-4, 5e-4, 5e-6                       P3–P7   yes
    FCOS                     0.8          1.6e-3, 8e-4, 8e-4, 8e-6                     P3–P7   yes
    RepPoints                0.5          1.6e-3, 8e-4, 8e-4, 8e-6                     P3–P7   yes
    Faster and Mask R-CNN    0.5          5e-5, 2.5e-5, 5e-5, 5e-7                     P2–P5   from R101
    =======================  ===========  ===========================================  ======  =========

    Those who inherit (†) start from the teacher's neck and head; students of Cascade R-CNN do not. The defaults are
    RetinaNet's, as its configuration has them: the paper's own weight of ``attention`` is 1e-3. The published code
    reads RepPoints' levels before the neck's group normalisation.
    """

    name = "fgd"
    terms = ("foreground", "background", "attention", "relation")
    needs_maps = True
    needs_annotations = True

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        weight_foreground: float = 1e-3,
        weight_background: float = 5e-4,
        weight_attention: float = 5e-4,
        weight_relation: float = 5e-6,
        boxes_by_stride: bool = False,
        **kwargs,
    ):
        """
        Args:
            temperature: T of both attentions.
            weight_foreground, weight_background, weight_attention, weight_relation: the paper's α, β, γ and λ.
            boxes_by_stride: False is the published way to bring boxes to the map, which images of unequal size
                distort; True mends it, see :func:`.box_masks`.
            kwargs: ``weight`` of all terms, ``levels``, ``in_channels``, ``student_channels``, ``seed``, see
                :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        super().__init__(**kwargs)
        weights = (weight_foreground, weight_background, weight_attention, weight_relation)
        self.term_weights = dict(zip(self.terms, weights))
        check_term_weights("FGD", temperature, self.term_weights)
        self.temperature = temperature
        self.boxes_by_stride = boxes_by_stride
        self.student_context = LevelDict()
        self.teacher_context = LevelDict()

    def build_level(self, pair: LevelPair) -> None:
        """See :meth:`DistillationHead.build_level`.

        Raises:
            UserError: if the teacher's level has a single channel.
        """
        if pair.teacher_channels < 2:
            raise UserError(f"FGD halves the channels of level {pair.teacher!r}, but it has one: leave the level out")
        self.student_context[pair.student] = GlobalContext(pair.teacher_channels)
        self.teacher_context[pair.student] = GlobalContext(pair.teacher_channels)

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> dict[str, Tensor]:
        """See :meth:`DistillationHead.compare`; the terms are weighted by their own weights."""
        foreground, background = box_masks(context, level, teacher, by_stride=self.boxes_by_stride)
        student_spatial, teacher_spatial = (spatial_attention(x, self.temperature) for x in (student, teacher))
        student_channel, teacher_channel = (channel_attention(x, self.temperature) for x in (student, teacher))

        difference = student - teacher
        error = teacher_spatial * torch.einsum("nchw,ncij->nihw", difference.square(), teacher_channel)  # (N, 1, H, W)
        shift = self.student_context[level](student) - self.teacher_context[level](teacher)  # of R_s(s) - R_t(t)
        sums = {
            "foreground": (error * foreground).sum(),
            "background": (error * background).sum(),
            "attention": F.l1_loss(student_channel, teacher_channel, reduction="sum")
            + F.l1_loss(student_spatial, teacher_spatial, reduction="sum"),
            "relation": (difference + shift).square().sum(),
        }
        return {term: self.term_weights[term] / len(student) * value for term, value in sums.items()}
