from collections.abc import Sequence

import torch
from detectron2.modeling.matcher import Matcher
from torch import Tensor

__all__ = ["MaxIoUMatcher"]


class MaxIoUMatcher(Matcher):
    """Detectron2's ``Matcher``, whose low-quality matches go to the object that asked for them.

    After the thresholds, each object in turn takes all elements that reach its best IoU, whoever had them before: the
    last object wins. The ``Matcher`` itself makes such an element foreground too, but gives it to
    the object that it overlaps most.
    """

    def __init__(
        self, thresholds: Sequence[float], labels: Sequence[int], *, min_iou: float = 0.0, match_unmet: bool = False
    ):
        """
        Args:
            thresholds, labels: as :class:`detectron2.modeling.matcher.Matcher`.
            min_iou: an object whose best IoU is lower takes none.
            match_unmet: whether an object that no element meets takes all elements of IoU 0. The published code does
                so. By default such an object takes none.
        """
        super().__init__(list(thresholds), list(labels))
        self.min_iou = min_iou
        self.match_unmet = match_unmet

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Maps the IoU of G objects with R elements, ``(G, R)``, to each element's object and label, ``(R,)`` both."""
        matches, labels = super().__call__(match_quality_matrix)
        if match_quality_matrix.numel() == 0:
            return matches, labels
        best = match_quality_matrix.amax(dim=1, keepdim=True)
        reached = (match_quality_matrix == best) & (best >= self.min_iou)
        if not self.match_unmet:
            reached &= match_quality_matrix > 0
        order = torch.arange(len(reached), device=reached.device)[:, None]
        last = torch.where(reached, order, -1).amax(dim=0)
        taken = last >= 0
        return torch.where(taken, last, matches), labels.masked_fill(taken, 1)
