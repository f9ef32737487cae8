import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage(AveragedModel):
    """A model whose weights follow another's, averaged over its last ``1 / (1 - decay)`` steps or so.

    The first steps are averaged over fewer, by a decay of (1 + n)/(10 + n) after n of them, so that the initial weights
    are soon forgotten. The statistics of batch norms are averaged as the weights are, as they belong to them; what
    counts, such as the number of batches, is copied.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.999):
        """
        Args:
            model: is copied, to ``module``.
            decay: share of the old average in the new one, from 0 to below 1.

        Raises:
            ValueError: if the decay is none.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it has to be from 0 to below 1")
        super().__init__(model, use_buffers=True)
        self.requires_grad_(False)
        self.decay = decay

    def decay_after(self, steps: int) -> float:
        """Returns the share of the old average where ``steps`` weights went into it."""
        return min(self.decay, (1 + steps) / (10 + steps))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Takes the weights of a step into the average. The first ones are the average.

        Args:
            model: of the kind that was copied.
        """
        self.multi_avg_fn = get_ema_multi_avg_fn(self.decay_after(int(self.n_averaged)))
        super().update_parameters(model)
        for averaged, current in zip(self.module.buffers(), model.buffers()):
            if not averaged.is_floating_point():
                averaged.copy_(current)
