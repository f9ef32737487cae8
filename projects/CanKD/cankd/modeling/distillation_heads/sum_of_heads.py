from collections.abc import Sequence

from cankd.modeling.levels import LevelPair
from cankd.utils import UserError
from torch import Tensor, nn

from .distillation_head import DistillationHead, Features, StepContext

__all__ = ["SumOfHeads"]


class SumOfHeads(DistillationHead):
    """Several methods at once, for example CanKD on features and CWD on logits; their losses add up.

    The losses keep their names; methods of the same name are numbered, "cwd" and "cwd2".
    """

    def __init__(self, *, heads: Sequence[DistillationHead], weight: float = 1.0):
        """
        Args:
            heads: at least one, none of them a sum.
            weight: factor of all losses, beside each head's own.

        Raises:
            UserError: if there is no head, one is a sum, or the weight is negative.
        """
        if not heads:
            raise UserError("a sum of heads has no heads: name at least one (model.head.heads)")
        if any(isinstance(head, SumOfHeads) for head in heads):
            raise UserError("a sum of heads has a sum among its heads: name that one's heads instead")
        super().__init__(levels=None, weight=weight)
        self.heads = nn.ModuleList(heads)
        if not self.lacks_levels:
            self.choose_levels(())
        taken = set()
        for head in heads:
            name, number = head.name, 1
            while head.name in taken:
                number += 1
                head.name = f"{name}{number}"
            taken.add(head.name)

    @property
    def adapts_channels(self) -> bool:
        """Whether one of the heads does."""
        return any(head.adapts_channels for head in self.heads)

    @property
    def lacks_levels(self) -> bool:
        """Whether one of the heads does."""
        return any(head.lacks_levels for head in self.heads)

    @property
    def named_levels(self) -> tuple[str, ...]:
        """The levels of those heads that have any."""
        return tuple(level for head in self.heads for level in head.levels)

    def choose_levels(self, levels: Sequence[str]) -> None:
        """Says which levels those heads compare that do not have any yet."""
        for head in self.heads:
            if head.lacks_levels:
                head.choose_levels(levels)
        super().choose_levels(dict.fromkeys(level for head in self.heads for level in head.levels))

    def connect(self, pairs: Sequence[LevelPair]) -> None:
        """See :meth:`DistillationHead.connect`."""
        for head in self.heads:
            head.connect(pairs)

    def forward(
        self,
        student_features: Features,
        teacher_features: Features,
        context: StepContext | None = None,
        skipped: set[str] | None = None,
    ) -> dict[str, Tensor]:
        """See :meth:`DistillationHead.forward`. A head whose weight is 0 does not run."""
        losses = {}
        for head in self.heads:
            if head.is_active:
                losses |= head(student_features, teacher_features, context, skipped=skipped)
            else:
                losses |= head.inactive_losses(next(iter(student_features.values())))
        return {name: self.weight * loss for name, loss in losses.items()}

    @property
    def losses_by_level(self) -> dict[str, list[str]]:
        """The names of each level's losses."""
        found = [head.losses_by_level for head in self.heads]
        return {level: [name for names in found for name in names.get(level, ())] for level in self.levels}

    @property
    def is_active(self) -> bool:
        """Whether anything is distilled."""
        return self.weight > 0 and any(head.is_active for head in self.heads)

    def correlations(self, student_features: Features, teacher_features: Features) -> dict[str, Tensor]:
        """See :meth:`DistillationHead.correlations`; of a level that several heads have, the first one's."""
        correlations = {}
        for head in self.heads:
            correlations = head.correlations(student_features, teacher_features) | correlations
        return correlations
