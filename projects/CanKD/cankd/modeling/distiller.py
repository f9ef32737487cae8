import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from cankd.utils import ComparisonError, UserError, split_unlabelled
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from .distillation_heads import DistillationHead, StepContext
from .distillation_heads.distillation_head import naming
from .feature_source import FeatureSource, backbone_shapes, has_module
from .levels import (
    PaddedSizes,
    check_sizes,
    choose_levels,
    describe_pairs,
    is_path,
    match_levels,
    padded_size,
    pair_features,
)
from .losses import losses_by_name
from .teacher import Teacher

__all__ = ["Distiller"]

logger = logging.getLogger(__name__)


class Distiller(nn.Module):
    """Meta-architecture for distillation: a student that trains on its own losses and on its teacher's features.

    In training it gives the student's losses and the head's, the latter times ``distillation_scale``, an attribute that
    a hook sets before the step; where that is 0, neither teacher nor head runs. In evaluation it is the student.

    Images that are marked by :data:`cankd.utils.UNLABELLED` are distilled without task losses. The student runs on them
    by themselves, in training mode, as far as the last level that is distilled; so its batch norms see them, too. The
    distillation losses are the means over all images of both kinds.

    Where images are so small that a level has too few positions for the head, the batch is distilled without the level.
    ``skipped_batches`` and the log count such batches.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        teacher: Teacher,
        head: DistillationHead,
        levels: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        input_format: str | None = None,
        correlation_period: int = 20,
    ):
        """
        Args:
            student: a Detectron2 meta-architecture, or any model that takes records as those do.
            teacher: the frozen teacher.
            head: gives the distillation losses of the student's levels ``head.levels``, see :class:`FeatureSource`. If
                it names none, those that ``levels`` maps are distilled, or those of :func:`choose_levels`.
            levels: map from student level to teacher level, or pairs of them. Where it says nothing, levels of the same
                stride pair up, then those of the same name. Levels of other strides pair up only if mapped; the
                student's is resized.
            input_format: channel order of the images, "BGR" or "RGB"; the student's own ``input_format`` if not given,
                and "BGR", as Detectron2's data loaders give them, if it has none.
            correlation_period: iterations between two measurements of how the features correlate, 0 for never.

        Raises:
            UserError: if the levels cannot be matched, or the head was built for other channels than the teacher's.
        """
        super().__init__()
        self.student = student
        self.teacher = teacher
        self.head = head
        self.input_format = input_format or getattr(student, "input_format", None) or "BGR"
        self.correlation_period = correlation_period
        self.distillation_scale = 1.0
        self.skipped_batches: Counter[str] = Counter()  # by level
        with naming(head):
            self.pairs = self._match(dict(levels or {}))
            head.connect(self.pairs)
        logger.info("Levels that are distilled:\n%s", describe_pairs(self.pairs))

    def _match(self, mapping):
        if self.head.lacks_levels:
            declared = backbone_shapes(self.student), self.teacher.output_shape()
            taken = {level for level in self.head.named_levels if is_path(level)}  # as logits, another head's
            self.head.choose_levels(choose_levels(*declared, {a: b for a, b in mapping.items() if a not in taken}))
        self._source = FeatureSource(self.student, self.head.levels, "student")
        declared = backbone_shapes(self.teacher.model)
        named = [mapping.get(level, level) for level in self.head.levels]
        inside = [name for name in named if name not in declared and has_module(self.teacher.model, name)]
        self.teacher.choose_levels([*declared, *inside])
        shapes = backbone_shapes(self.student) | self._source.output_shape()
        pairs = match_levels(self.head.levels, shapes, self.teacher.output_shape(), mapping)
        self.teacher.choose_levels([pair.teacher for pair in pairs])
        return [dataclasses.replace(pair, adapts_channels=self.head.adapts_channels) for pair in pairs]

    def forward(self, batched_inputs: Sequence[Mapping]) -> dict[str, Tensor] | list[dict]:
        """
        Args:
            batched_inputs: as Detectron2's data loaders give them, those that are unlabelled marked.

        Returns:
            In training, map from name to loss. In evaluation, the student's output.

        Raises:
            ComparisonError: if the head cannot work on the features.
        """
        if not self.training:
            return self.student(batched_inputs)
        labelled, unlabelled = split_unlabelled(batched_inputs)
        if self.distillation_scale == 0 or not self.head.is_active:
            losses = losses_by_name(self.student(labelled))
            if not losses:
                raise UserError(
                    "the student gives no loss in training, and nothing is distilled: there is none to train by"
                )
            return {**losses, **self._inactive_losses(next(iter(losses.values())))}
        # First the teacher: a GPU runs it beside the student, and its memory is free before the student's fills.
        pending = self.teacher.start(labelled, self.input_format)
        with self._source.record() as student_features:
            losses = losses_by_name(self.student(labelled))
        features = self._pair(student_features, pending.wait(), labelled)
        for name, loss in self._distill(features, labelled, unlabelled).items():
            losses[name] = self.distillation_scale * loss
        self._log_correlations(*features)
        return losses

    def _distill(self, features, labelled, unlabelled):
        """Returns the distillation losses, the means over the labelled images and, by a pass of them, the others."""
        losses = self._compare(features, labelled)
        if not unlabelled:
            return losses
        device = next(self.student.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):  # dropout's numbers stay the baseline's
            others = self._compare(self.compute_features(unlabelled), unlabelled)
        share = len(unlabelled) / (len(labelled) + len(unlabelled))
        return {name: torch.lerp(loss, others[name], share) for name, loss in losses.items()}

    def _compare(self, features, batched_inputs):
        skipped = set()
        with self._naming_pairs():
            losses = self.head(*features, self.context_of(batched_inputs), skipped=skipped)
        self._log_skipped(skipped, batched_inputs)
        return losses

    @contextlib.contextmanager
    def _naming_pairs(self):
        try:
            yield
        except UserError as error:
            raise ComparisonError(f"{error}. Distilled are:\n{describe_pairs(self.pairs)}") from error

    def _log_skipped(self, skipped, batched_inputs):
        for level in sorted(skipped - self.skipped_batches.keys()):
            sizes = ", ".join("{}×{}".format(*record["image"].shape[-2:]) for record in batched_inputs)
            logger.warning(
                "Images of %s leave too few positions at level %r: it is left out of such batches, which are counted "
                "in the log as skipped_%s.",
                sizes,
                level,
                level,
            )
        self.skipped_batches.update(skipped)
        if has_event_storage():
            for level, batches in self.skipped_batches.items():
                get_event_storage().put_scalar(f"[metric]skipped_{level}", batches, smoothing_hint=False)

    def _inactive_losses(self, like):
        losses = self.head.inactive_losses(like)
        if comm.get_world_size() > 1:
            return losses  # DistributedDataParallel waits for every parameter
        return {name: loss.detach() for name, loss in losses.items()}  # the optimizer leaves the head alone

    def context_of(self, batched_inputs: Sequence[Mapping]) -> StepContext:
        """Returns what a head may need of a batch beside the features."""
        return StepContext(batched_inputs, {pair.student: pair.teacher_stride for pair in self.pairs})

    def record_student_features(self):
        """Returns a context that gives a dict, which fills with the student's features at the distilled levels."""
        return self._source.record()

    def compute_features(self, batched_inputs: Sequence[Mapping]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Computes the features that are compared, without the student's losses.

        Args:
            batched_inputs: as for :meth:`forward`.

        Returns:
            The student's and the teacher's features by the student's level names, each pair of one size.
        """
        pending = self.teacher.start(batched_inputs, self.input_format)
        return self._pair(self._source.compute(batched_inputs), pending.wait(), batched_inputs)

    def _pair(self, student_features, teacher_features, batched_inputs):
        """Returns the features by the student's level names, each pair of one size."""
        images = [record["image"].shape[-2:] for record in batched_inputs]
        size = tuple(max(sides) for sides in zip(*images))
        sizes = PaddedSizes(size, padded_size(self.student, size), self.teacher.padded_size(size))
        with self._naming_pairs():
            check_sizes(self.pairs, student_features, teacher_features, sizes)
        return pair_features(self.pairs, student_features, teacher_features)

    def _log_correlations(self, student_features, teacher_features):
        if not (self.correlation_period and has_event_storage()):
            return
        storage = get_event_storage()
        if (storage.iter + 1) % self.correlation_period == 0:
            for level, value in self.head.correlations(student_features, teacher_features).items():
                storage.put_scalar(f"[metric]correlation_{level}", value)
