from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .covariances import covariances, instance_normalized_mse
from .non_local import CrossNonLocal

__all__ = ["CanKDHead"]


class CanKDHead(nn.Module):
    """The distillation loss of CanKD over several feature levels (CanKD, Sec. 3).

    At each level, with fused student feature z (:class:`CrossNonLocal`) and teacher feature y, the loss is
    ``weight * mean((IN(z) - IN(y))^2)``, IN being instance normalisation without parameters.

    The head holds everything that is trained beside the student: the attention and, where the student has other
    channels than the teacher, a 1×1 convolution on the student's side.
    """

    def __init__(
        self,
        *,
        levels: Sequence[str],
        in_channels: int,
        weight: float = 5.0,
        instance_norm: bool = True,
        attention: bool = True,
        inter_channels: int | None = None,
        affinity: str = "dot_product",
        pool_size: int = 2,
        residual: bool = True,
        norm: str = "BN",
    ):
        """
        Args:
            levels: the student's names of the levels, for example ["p3", "p4", "p5"].
            in_channels: channels of the teacher at these levels.
            weight: the paper's μ, at least 0.
            instance_norm: whether to normalise both features before they are compared.
            attention: False compares the student's own feature with the teacher's, for ablation.
            inter_channels, affinity, pool_size, residual, norm: see :class:`CrossNonLocal`.

        Raises:
            ValueError: if there is no level, a level stands twice, or the weight is negative.
        """
        super().__init__()
        self.levels = tuple(levels)
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels is {list(self.levels)}; name each level to distil once, at least one")
        if not weight >= 0:
            raise ValueError(f"the distillation weight is {weight}; it has to be 0 or more (the paper has 5)")
        self.in_channels = in_channels
        self.weight = weight
        self.instance_norm = instance_norm
        self.pool_size = pool_size if attention else 1
        self.adapters = nn.ModuleDict()
        self.non_local = nn.ModuleDict()
        if attention:
            for level in self.levels:
                self.non_local[level] = CrossNonLocal(
                    in_channels,
                    inter_channels=inter_channels,
                    affinity=affinity,
                    pool_size=pool_size,
                    residual=residual,
                    norm=norm,
                )

    def add_adapter(self, level: str, student_channels: int) -> None:
        """Puts a 1×1 convolution from the student's to the teacher's channels before a level's comparison."""
        self.adapters[level] = nn.Conv2d(student_channels, self.in_channels, 1)

    def forward(
        self, student_features: Mapping[str, Tensor], teacher_features: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """
        Args:
            student_features, teacher_features: maps from the student's level names to ``(N, C, H, W)``. The two maps of
                a level have the same size. The teacher's carry no gradient.

        Returns:
            Map from "loss_cankd_<level>" to the weighted loss, a float32 scalar (float64 for float64 features).

        Raises:
            ValueError: if a map leaves fewer than two positions to attend to or to normalise over.
        """
        losses = {}
        with _full_precision(student_features):
            for level, student, teacher in self._adapt(student_features, teacher_features):
                losses[f"loss_cankd_{level}"] = self.weight * self._compare(level, student, teacher)
        return losses

    def _compare(self, level, student, teacher):
        if level in self.non_local:
            non_local = self.non_local[level]
            if self.instance_norm and non_local.is_affine:
                *moments, teacher_variance = covariances(student, teacher)
                return instance_normalized_mse(*non_local.fused_covariances(teacher, *moments), teacher_variance)
            student = non_local(student, teacher)
        if self.instance_norm:
            student, teacher = F.instance_norm(student), F.instance_norm(teacher)
        return F.mse_loss(student, teacher)

    def inactive_losses(self, like: Tensor) -> dict[str, Tensor]:
        """Returns zeros by the same names, tied to every parameter, for steps on which the head does not run.

        DistributedDataParallel wants each parameter to take part in each step.

        Args:
            like: any loss, for device and type.
        """
        losses = {}
        for level in self.levels:
            modules = [group[level] for group in (self.non_local, self.adapters) if level in group]
            parameters = [p.sum() for module in modules for p in module.parameters()]
            losses[f"loss_cankd_{level}"] = 0.0 * sum(parameters, like.new_zeros(()))
        return losses

    @torch.no_grad()
    def correlations(
        self, student_features: Mapping[str, Tensor], teacher_features: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Measures how alike student and teacher are, without the attention's help.

        Args:
            student_features, teacher_features: as for :meth:`forward`.

        Returns:
            Map from level to the Pearson correlation over positions, a scalar, averaged over images and channels.
        """
        with _full_precision(student_features):
            return {
                level: (F.instance_norm(student) * F.instance_norm(teacher)).mean()
                for level, student, teacher in self._adapt(student_features, teacher_features)
            }

    @torch.no_grad()
    def attention_rows(
        self,
        student_features: Mapping[str, Tensor],
        teacher_features: Mapping[str, Tensor],
        positions: Mapping[str, Sequence[tuple[int, int]]],
    ) -> dict[str, Tensor]:
        """Computes what chosen student positions draw from each teacher position.

        Args:
            student_features, teacher_features: as for :meth:`forward`.
            positions: map from level to rows and columns of the student's map.

        Returns:
            Map from level to weights, see :meth:`CrossNonLocal.attention_rows`.

        Raises:
            ValueError: if the head has no attention.
        """
        if not self.non_local:
            raise ValueError("this head has no attention: model.head.attention is False")
        with _full_precision(student_features):
            return {
                level: self.non_local[level].attention_rows(student, teacher, positions[level])
                for level, student, teacher in self._adapt(student_features, teacher_features)
                if level in positions
            }

    def _adapt(self, student_features, teacher_features):
        """Yields each level's name and its two features, comparable: same channels, at least float32."""
        for level in self.levels:
            student, teacher = student_features[level], teacher_features[level]
            height, width = teacher.shape[-2:]
            if (height // self.pool_size) * (width // self.pool_size) < 2:
                raise ValueError(
                    f"level {level!r} is {height}×{width}, and pooling by {self.pool_size} leaves fewer than 2 "
                    "positions: train on larger images, or leave the level out of head.levels"
                )
            if student.dtype != torch.float64:
                student, teacher = student.float(), teacher.float()
            if level in self.adapters:
                student = self.adapters[level](student)
            yield level, student, teacher


def _full_precision(features):
    """Returns a context without autocast: products over all positions overflow float16 and blur in bfloat16."""
    return torch.autocast(next(iter(features.values())).device.type, enabled=False)
