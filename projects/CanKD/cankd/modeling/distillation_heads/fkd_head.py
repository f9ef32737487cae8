from collections.abc import Sequence

import torch
from cankd.modeling.levels import LevelPair
from cankd.utils import TooSmallError, UserError
from torch import Tensor, nn

from .attention_maps import channel_attention, spatial_attention
from .checks import check_term_weights
from .distillation_head import DistillationHead, StepContext
from .level_dict import LevelDict
from .non_local import CrossNonLocal

__all__ = ["FKDHead"]


class FKDHead(DistillationHead):
    """FKD: attention-guided and non-local feature distillation for detectors (Zhang and Ma, ICLR 2021).

    With student s, teacher t, attention A over positions and B over channels (:mod:`.attention_maps`), the four terms
    are norms over the whole batch, divided by nothing::

        feature = ||(t - W1 s) sqrt(M K)||     M = (A(s) + A(t)) / 2, K = (B(s) + B(t)) / 2 or 1, without gradient
        channel = ||mean_p t - W2 mean_p s||   spatial = ||mean_c t - W3 * mean_c s||
        relation = ||W4 R_s(s) - R_t(t)||      R(x) = x + non-local block of x (:class:`CrossNonLocal`), both trained

    W1 and W4 are 1×1 convolutions, W2 is linear, W3 a 3×3 convolution. They are there where channels agree, too; a
    student of other channels is brought to the teacher's before.

    =========  ===========  ============  =================  ================  ======
    published  temperature  channel_mask  feature, relation  channel, spatial  levels
    =========  ===========  ============  =================  ================  ======
    one-stage  0.1          True          4.2e-4             2.4e-2            P3–P7
    two-stage  0.5          False         7e-5               4e-3              P2–P6
    =========  ===========  ============  =================  ================  ======

    These are the published code's; the defaults are those of one-stage detectors. The paper exchanges the temperatures
    of the two kinds, and gives the large weight to the masked feature, the small one to the means. The student does not
    inherit.
    """

    name = "fkd"
    terms = ("feature", "channel", "spatial", "relation")
    needs_maps = True

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        channel_mask: bool = True,
        weight_feature: float = 4.2e-4,
        weight_channel: float = 2.4e-2,
        weight_spatial: float = 2.4e-2,
        weight_relation: float = 4.2e-4,
        inter_channels: int | Sequence[int] = (64, 64, 128),
        pool_size: int | Sequence[int] = (8, 4, 2),
        **kwargs,
    ):
        """
        Args:
            temperature: T of both attentions.
            channel_mask: whether the masked feature has K.
            weight_feature, weight_channel, weight_spatial, weight_relation: factors of the terms.
            inter_channels: channels within the non-local blocks, one number, or one a level in the order of
                ``levels``; the last holds for all that follow.
            pool_size: likewise the side of their max pooling.
            kwargs: ``weight`` of all terms, ``levels``, ``in_channels``, ``student_channels``, see
                :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        super().__init__(**kwargs)
        weights = (weight_feature, weight_channel, weight_spatial, weight_relation)
        self.term_weights = dict(zip(self.terms, weights))
        check_term_weights("FKD", temperature, self.term_weights)
        self.temperature = temperature
        self.channel_mask = channel_mask
        self._inter_channels = _as_list(inter_channels)
        self._pool_size = _as_list(pool_size)
        self.feature_adapter = LevelDict()
        self.channel_adapter = LevelDict()
        self.spatial_adapter = LevelDict()
        self.relation_adapter = LevelDict()
        self.student_non_local = LevelDict()
        self.teacher_non_local = LevelDict()

    @property
    def inter_channels(self) -> dict[str, int]:
        """Channels within the non-local blocks of each level."""
        return self._in_order_of_levels(self._inter_channels)

    @property
    def pool_size(self) -> dict[str, int]:
        """Side of the max pooling of each level."""
        return self._in_order_of_levels(self._pool_size)

    def _in_order_of_levels(self, values):
        return {level: values[min(i, len(values) - 1)] for i, level in enumerate(self.levels)}

    def build_level(self, pair: LevelPair) -> None:
        """See :meth:`DistillationHead.build_level`."""
        level, channels = pair.student, pair.teacher_channels
        self.feature_adapter[level] = nn.Conv2d(channels, channels, 1)
        self.channel_adapter[level] = nn.Linear(channels, channels)
        self.spatial_adapter[level] = nn.Conv2d(1, 1, 3, padding=1)
        self.relation_adapter[level] = nn.Conv2d(channels, channels, 1)
        for non_local in (self.student_non_local, self.teacher_non_local):
            non_local[level] = CrossNonLocal(
                channels, inter_channels=self.inter_channels[level], pool_size=self.pool_size[level]
            )

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> dict[str, Tensor]:
        """See :meth:`DistillationHead.compare`; the terms are weighted by their own weights."""
        self._check_size(level, teacher)
        masked = teacher - self.feature_adapter[level](student)
        for root in self._mask_roots(student, teacher):
            masked = masked * root
        differences = {
            "feature": masked,
            "channel": teacher.mean((2, 3)) - self.channel_adapter[level](student.mean((2, 3))),
            "spatial": teacher.mean(1, keepdim=True) - self.spatial_adapter[level](student.mean(1, keepdim=True)),
            "relation": self.relation_adapter[level](self.student_non_local[level](student, student))
            - self.teacher_non_local[level](teacher, teacher),
        }
        # Unlike a plain root, the norm has a gradient, 0, where two features agree exactly.
        return {term: self.term_weights[term] * torch.linalg.vector_norm(x) for term, x in differences.items()}

    @torch.no_grad()
    def _mask_roots(self, student, teacher):
        """Returns the root of M, ``(N, 1, H, W)``, and that of K, ``(N, C, 1, 1)``, where it is used."""
        attentions = [spatial_attention, channel_attention] if self.channel_mask else [spatial_attention]
        return [((f(student, self.temperature) + f(teacher, self.temperature)) / 2).sqrt() for f in attentions]

    def _check_size(self, level, teacher):
        (height, width), side = teacher.shape[2:], self.pool_size[level]
        if min(height, width) < side or len(teacher) * height * width < 2:  # a batch norm needs two values
            raise TooSmallError(
                f"level {level!r} is {height}×{width}, and pooling by {side} leaves no position, or one: train on "
                "larger images, choose a smaller head.pool_size, or leave the level out of head.levels"
            )


def _as_list(values):
    values = [values] if isinstance(values, int) else list(values)
    if not values:
        raise UserError("inter_channels and pool_size have to be a number, or one a level")
    return values
