import logging
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from .cankd_head import CanKDHead
from .features import backbone_shapes, describe_pairs, match_levels, record_features
from .teacher import Teacher

__all__ = ["Distiller"]

logger = logging.getLogger(__name__)


class Distiller(nn.Module):
    """Meta-architecture for distillation: a student that trains on its own losses and on its teacher's features.

    In training it gives the student's losses and the head's, the latter times ``distillation_scale``, an attribute that
    a hook sets before the step; where that is 0, neither teacher nor head runs. In evaluation it is the student.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        teacher: Teacher,
        head: CanKDHead,
        levels: Mapping[str, str] | None = None,
        input_format: str | None = None,
        correlation_period: int = 20,
    ):
        """
        Args:
            student: a Detectron2 meta-architecture with ``backbone``.
            teacher: the frozen teacher.
            head: gives the distillation losses of the student's levels ``head.levels``.
            levels: map from student level to teacher level. Where it says nothing, levels of the same stride pair up,
                then those of the same name. Levels of other strides pair up only if mapped; the student's is resized.
            input_format: channel order of the images, "BGR" or "RGB"; the student's own ``input_format`` if not given,
                and "BGR", as Detectron2's data loaders give them, if it has none.
            correlation_period: iterations between two measurements of how the features correlate, 0 for never.

        Raises:
            ValueError: if the levels cannot be matched, or the head has other channels than the teacher.
        """
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.head = head
        self.input_format = input_format or getattr(student, "input_format", None) or "BGR"
        self.correlation_period = correlation_period
        self.distillation_scale = 1.0
        self.pairs = match_levels(head.levels, backbone_shapes(student, "student"), teacher.output_shape(), levels)
        for pair in self.pairs:
            if pair.teacher_channels != head.in_channels:
                raise ValueError(
                    f"head.in_channels is {head.in_channels}, but the teacher's level {pair.teacher!r} has "
                    f"{pair.teacher_channels} channels: set head.in_channels to that"
                )
            if pair.student_channels != pair.teacher_channels:
                head.add_adapter(pair.student, pair.student_channels)
        logger.info("Levels that are distilled:\n%s", describe_pairs(self.pairs))

    def forward(self, batched_inputs: Sequence[Mapping]) -> dict[str, Tensor] | list[dict]:
        """
        Args:
            batched_inputs: as Detectron2's data loaders give them.

        Returns:
            In training, map from name to loss. In evaluation, the student's output.

        Raises:
            ValueError: if the images are so small that a distilled level has fewer than two positions.
        """
        if not self.training:
            return self.student(batched_inputs)
        if self.distillation_scale * self.head.weight == 0:
            losses = self.student(batched_inputs)
            return {**losses, **self._inactive_losses(next(iter(losses.values())))}
        # First the teacher: a GPU runs it beside the student, and its memory is free before the student's fills.
        teacher_features = self.teacher.start(batched_inputs, self._teacher_levels, self.input_format)
        with record_features(self.student.backbone) as student_features:
            losses = self.student(batched_inputs)
        features = self._pair(student_features, teacher_features())
        try:
            distillation_losses = self.head(*features)
        except ValueError as error:
            raise ValueError(f"{error}. Distilled are:\n{describe_pairs(self.pairs)}") from error
        for name, loss in distillation_losses.items():
            losses[name] = self.distillation_scale * loss
        self._log_correlations(*features)
        return losses

    def _inactive_losses(self, like):
        losses = self.head.inactive_losses(like)
        if comm.get_world_size() > 1:
            return losses  # DistributedDataParallel waits for every parameter
        return {name: loss.detach() for name, loss in losses.items()}  # the optimizer leaves the head alone

    def pair_features(
        self, batched_inputs: Sequence[Mapping], student_features: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Computes the teacher's features and brings each pair of levels to one size.

        Args:
            batched_inputs: as for :meth:`forward`.
            student_features: map from level to what the student's backbone made of them, ``(N, C, H, W)``.

        Returns:
            The student's and the teacher's features by the student's level names.
        """
        return self._pair(student_features, self.teacher(batched_inputs, self._teacher_levels, self.input_format))

    @property
    def _teacher_levels(self):
        return [pair.teacher for pair in self.pairs]

    def _pair(self, student_features, teacher_features):
        students, teachers = {}, {}
        for pair in self.pairs:
            student, teacher = student_features[pair.student], teacher_features[pair.teacher]
            if pair.student_stride != pair.teacher_stride:
                scale = pair.student_stride / pair.teacher_stride
                student = F.interpolate(student, scale_factor=scale, mode="bilinear")
            # Both pad below and to the right, each by its own size divisibility: what they share is the top left.
            height, width = (min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:]))
            students[pair.student] = student[:, :, :height, :width]
            teachers[pair.student] = teacher[:, :, :height, :width]
        return students, teachers

    def _log_correlations(self, student_features, teacher_features):
        if not (self.correlation_period and has_event_storage()):
            return
        storage = get_event_storage()
        if (storage.iter + 1) % self.correlation_period == 0:
            for level, value in self.head.correlations(student_features, teacher_features).items():
                storage.put_scalar(f"[metric]correlation_{level}", value)
