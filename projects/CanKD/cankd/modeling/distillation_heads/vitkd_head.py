from collections.abc import Sequence

import torch
import torch.nn.functional as F
from cankd.modeling.levels import LevelPair
from cankd.utils import TooSmallError, UserError
from torch import Tensor, nn

from .distillation_head import DistillationHead, StepContext
from .masked_generator import MaskedGenerator

__all__ = ["ViTKDHead"]


class ViTKDHead(DistillationHead):
    """ViTKD: a ViT's shallow layers are mimicked, its deep one generated (Yang et al., arXiv 2022, CVPRW 2024).

    The last of ``levels`` is the deep one, all others are shallow. Each has one loss, ``loss_vitkd_<level>``. With
    the student's tokens s, brought to the teacher's width where the two differ, and the teacher's t, N images:

    - shallow: ``weight_shallow / N * sum((s - t)^2)``.
    - deep: a share λ of the tokens, m = 1, gives way to one learned token. A :class:`MaskedGenerator` makes all tokens,
      y, from that, and the replaced ones are compared: ``weight_deep / (λ N) * sum(m (y - t)^2)``.

    Published for classification, with the same weights for DeiT-T ← DeiT III-S, DeiT-S ← III-B and DeiT-B ← III-L:
    the patch tokens behind the first two blocks, and those behind the last block and its norm. With a ViT of timm's
    under ``backbone`` these are ``levels=["backbone.blocks.0", "backbone.blocks.1", "backbone.norm"]``. Tokens come as
    maps of their grid, which may be any rectangle; published are squares. The published code leaves the teacher in
    training mode; here it is in evaluation mode. The logit loss NKD of the best published results is no part of this.
    """

    name = "vitkd"
    needs_maps = True

    def __init__(
        self,
        *,
        levels: Sequence[str],
        weight_shallow: float = 3e-5,
        weight_deep: float = 3e-6,
        masked_fraction: float = 0.5,
        **kwargs,
    ):
        """
        Args:
            levels: the student's names of the levels, the deep one last.
            weight_shallow: the paper's α, at least 0.
            weight_deep: the paper's β, at least 0.
            masked_fraction: the paper's λ, between 0 and 1: share of the deep tokens that are replaced.
            kwargs: ``weight``, ``in_channels`` and others, see :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        super().__init__(levels=levels, **kwargs)
        if not (weight_shallow >= 0 and weight_deep >= 0):
            raise UserError(f"weight_shallow={weight_shallow} and weight_deep={weight_deep} have to be 0 or more")
        if not 0 < masked_fraction < 1:
            raise UserError(f"masked_fraction is {masked_fraction}; it has to be between 0 and 1, both excluded")
        self.weight_shallow = weight_shallow
        self.weight_deep = weight_deep
        self.masked_fraction = masked_fraction

    def connect(self, pairs: Sequence[LevelPair]) -> None:
        """See :meth:`DistillationHead.connect`.

        Raises:
            UserError: if the levels are no blocks of a ViT, which have one stride.
        """
        strides = {pair.student: pair.student_stride for pair in pairs if pair.student in self.levels}
        if len(set(strides.values())) > 1:
            raise UserError(
                "ViTKD compares the blocks of a ViT, which share one grid of tokens, and the strides of its levels are "
                f"{strides}: name blocks, as backbone.blocks.0, in model.head.levels, or take a method for pyramids"
            )
        super().connect(pairs)

    def build_level(self, pair: LevelPair) -> None:
        """See :meth:`DistillationHead.build_level`. The deep level alone trains more than its adapter."""
        if pair.student == self.levels[-1]:
            channels = pair.teacher_channels
            self.mask_token = nn.Parameter(torch.zeros(1, channels, 1, 1))
            self.masked_generator = MaskedGenerator(channels)

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> Tensor:
        """See :meth:`DistillationHead.compare`."""
        if level == self.levels[-1]:
            return self.weight_deep * self._generation_loss(level, student, teacher)
        return self.weight_shallow * F.mse_loss(student, teacher, reduction="sum") / len(student)

    def _generation_loss(self, level, student, teacher):
        masked = self._draw_mask(level, student)
        generated = self.masked_generator(torch.where(masked, self.mask_token, student))
        return (masked * (generated - teacher).square()).sum() / (self.masked_fraction * len(student))

    def _draw_mask(self, level, x):
        """Chooses the tokens to replace: True in ``(N, 1, H, W)``, as many in each image."""
        height, width = x.shape[2:]
        kept = int(height * width * (1 - self.masked_fraction))
        if not kept:
            raise TooSmallError(
                f"level {level!r} is {height}×{width}, and masked_fraction={self.masked_fraction} leaves no token: "
                "train on larger images, or set a smaller masked_fraction"
            )
        smallest = self.draw_uniform(x).topk(kept, largest=False).indices  # (N, kept)
        masked = smallest.new_ones(len(x), height * width, dtype=torch.bool)
        masked.scatter_(1, smallest, 0)  # False could not be traced
        return masked.view(-1, 1, height, width)

    def draw_uniform(self, x: Tensor) -> Tensor:
        """Draws a number for each token of ``(N, C, H, W)``, ``(N, HW)``; those with the smallest are kept."""
        count, _, height, width = x.shape
        return torch.rand(count, height * width, generator=self.generator(x.device), device=x.device)
