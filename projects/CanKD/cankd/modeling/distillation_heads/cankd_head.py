from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from cankd.modeling.levels import LevelPair
from cankd.utils import TooSmallError, UserError
from torch import Tensor

from .affinities import get_affinity
from .covariances import instance_normalized_mse
from .distillation_head import DistillationHead, Features, StepContext, full_precision
from .level_dict import LevelDict
from .non_local import CrossNonLocal

__all__ = ["CanKDHead"]


class CanKDHead(DistillationHead):
    """CanKD: the student's feature attends to the teacher's, and the fused one is pulled towards it (CanKD, Sec. 3).

    At each level, with fused student feature z (:class:`CrossNonLocal`) and teacher feature y, the loss is
    ``weight * mean((IN(z) - IN(y))^2)``, IN being instance normalisation without parameters.
    """

    name = "cankd"
    needs_maps = True

    def __init__(
        self,
        *,
        weight: float = 5.0,
        instance_norm: bool = True,
        attention: bool = True,
        inter_channels: int | None = None,
        affinity: str = "dot_product",
        pool_size: int = 2,
        pooling: str = "max",
        residual: bool = True,
        norm: str = "BN",
        **kwargs,
    ):
        """
        Args:
            weight: the paper's μ, at least 0.
            instance_norm: whether to normalise both features before they are compared.
            attention: False compares the student's own feature with the teacher's, for ablation.
            inter_channels, affinity, pool_size, pooling, residual, norm: see :class:`CrossNonLocal`.
            kwargs: ``levels``, ``in_channels``, ``student_channels``, see :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        super().__init__(weight=weight, **kwargs)
        self.instance_norm = instance_norm
        self.attention = attention
        self.affinity = affinity
        self.has_attention = attention and get_affinity(affinity).attends
        self.pool_size = pool_size if self.has_attention else 1
        self.non_local = LevelDict()
        self._options = dict(
            inter_channels=inter_channels,
            affinity=affinity,
            pool_size=pool_size,
            pooling=pooling,
            residual=residual,
            norm=norm,
        )

    def build_level(self, pair: LevelPair) -> None:
        """See :meth:`DistillationHead.build_level`."""
        if self.attention:
            self.non_local[pair.student] = CrossNonLocal(pair.teacher_channels, **self._options)

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> Tensor:
        """See :meth:`DistillationHead.compare`."""
        self._check_size(level, teacher)
        if level in self.non_local:
            non_local = self.non_local[level]
            if self.instance_norm and non_local.is_affine:
                return instance_normalized_mse(*non_local.fused_covariances(student, teacher)).to(student.dtype)
            student = non_local(student, teacher)
        if self.instance_norm:
            student, teacher = F.instance_norm(student), F.instance_norm(teacher)
        return F.mse_loss(student, teacher)

    def _check_size(self, level, teacher):
        height, width = teacher.shape[2:]
        if (height // self.pool_size) * (width // self.pool_size) < 2:
            raise TooSmallError(
                f"level {level!r} is {height}×{width}, and pooling by {self.pool_size} leaves fewer than 2 "
                "positions: train on larger images, or leave the level out of head.levels"
            )

    @torch.no_grad()
    def attention_rows(
        self,
        student_features: Features,
        teacher_features: Features,
        positions: Mapping[str, Sequence[tuple[int, int]]],
    ) -> dict[str, Tensor]:
        """Computes what chosen student positions draw from each teacher position.

        Args:
            student_features, teacher_features: as for :meth:`forward`.
            positions: map from level to rows and columns of the student's map.

        Returns:
            Map from level to weights, see :meth:`CrossNonLocal.attention_rows`.

        Raises:
            UserError: if the head has no attention.
        """
        if not self.has_attention:
            raise UserError(
                "this head has no attention: model.head.attention is False, or its affinity attends to nothing"
            )
        with full_precision(student_features):
            return {
                level: self.non_local[level].attention_rows(student, teacher, positions[level])
                for level, student, teacher in self._adapt(student_features, teacher_features)
                if level in positions
            }

    @property
    def attention_is_signed(self) -> bool:
        """Whether what :meth:`attention_rows` gives has entries below 0."""
        return get_affinity(self.affinity).is_signed
