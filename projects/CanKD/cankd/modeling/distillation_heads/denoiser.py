"""The diffusion model of DiffKD: its noise schedule, its network, and how it removes noise."""

from collections import OrderedDict

import torch
from cankd.utils import UserError
from torch import Tensor, nn

from .bottleneck import Bottleneck

__all__ = ["NUM_TIMESTEPS", "Denoiser"]

NUM_TIMESTEPS = 1000
_NUM_EMBEDDINGS = 1280  # the published table's; those from NUM_TIMESTEPS on are never used


class Denoiser(nn.Module):
    """Predicts the noise in a feature, and removes it by DDIM (Song et al., ICLR 2021) without added noise.

    With ``alpha_k = prod_{j <= k} (1 - beta_j)``, beta linear from 1e-4 to 0.02 over 1000 timesteps, a feature h and
    noise ε mix at timestep k to ``sqrt(alpha_k) h + sqrt(1 - alpha_k) ε``. Calling the module predicts ε.
    The schedule is computed in float64; the published one, in float32, differs by less than 1e-6.
    """

    def __init__(self, *, channels: int, steps: int = 5, logits: bool = False):
        """
        Args:
            channels: C of the feature.
            steps: K of :meth:`denoise`. The timesteps are the later half of 2K evenly spaced ones: 400, 300, 200, 100,
                0 for K = 5.
            logits: whether the features are logits, ``(N, C, 1, 1)``, which have no neighbours.

        Raises:
            UserError: if there are not as many timesteps.
        """
        super().__init__()
        if not 1 <= steps <= NUM_TIMESTEPS // 2:
            raise UserError(f"steps is {steps}; denoising takes 1 to {NUM_TIMESTEPS // 2} steps")
        self.time_embedding = nn.Embedding(_NUM_EMBEDDINGS, channels)
        self.layers = nn.Sequential(_logit_layers(channels) if logits else _map_layers(channels))
        betas = torch.linspace(1e-4, 0.02, NUM_TIMESTEPS, dtype=torch.float64)
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0), persistent=False)
        self._steps = _ddim_steps(self.alphas_cumprod, steps)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Predicts noise.

        Args:
            x: noisy feature, ``(N, C, H, W)``.
            timesteps: of each image, or one for all, ``(N,)`` or ``(1,)``.

        Returns:
            The noise, ``(N, C, H, W)``.
        """
        return self.layers(x + self.time_embedding(timesteps)[:, :, None, None])

    def add_noise(self, x: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Mixes a feature with noise.

        Args:
            x, noise: ``(N, C, H, W)``.
            timesteps: of each image, ``(N,)``.
        """
        alpha = self.alphas_cumprod[timesteps][:, None, None, None]
        return alpha.sqrt().to(x) * x + (1 - alpha).sqrt().to(x) * noise

    def denoise(self, x: Tensor) -> Tensor:
        """Removes the noise of ``(N, C, H, W)`` in K steps; gradients flow through all."""
        for timestep, kept, removed in self._steps:
            noise = self(x, torch.full((1,), timestep, device=x.device))
            x = kept * x - removed * noise
        return x


def _ddim_steps(alphas_cumprod, steps):
    """Lists each step's timestep and two factors; the last step leads to a feature without noise, alpha = 1.

    A step estimates ``h = (x - sqrt(1 - alpha) e) / sqrt(alpha)`` and mixes it with the noise e again, for the next
    timestep's alpha. So it is linear in x and e.
    """
    stride = NUM_TIMESTEPS // (2 * steps)
    timesteps = range((steps - 1) * stride, -1, -stride)
    alphas = alphas_cumprod[list(timesteps)]
    next_alphas = torch.cat([alphas[1:], alphas.new_ones(1)])
    kept = (next_alphas / alphas).sqrt()
    removed = kept * (1 - alphas).sqrt() - (1 - next_alphas).sqrt()
    return list(zip(timesteps, kept.tolist(), removed.tolist()))


def _map_layers(channels):
    return OrderedDict(
        block1=Bottleneck(channels=channels, reduction=4),
        block2=Bottleneck(channels=channels, reduction=4),
        conv=nn.Conv2d(channels, channels, 1),
        norm=nn.BatchNorm2d(channels),
    )


def _logit_layers(channels):
    return OrderedDict(
        conv1=nn.Conv2d(channels, 4 * channels, 1),
        norm1=nn.BatchNorm2d(4 * channels),
        relu1=nn.ReLU(inplace=True),
        conv2=nn.Conv2d(4 * channels, channels, 1),
        norm2=nn.BatchNorm2d(channels),
        conv3=nn.Conv2d(channels, 4 * channels, 1),
        norm3=nn.BatchNorm2d(4 * channels),
        relu3=nn.ReLU(inplace=True),
        conv4=nn.Conv2d(4 * channels, channels, 1),
    )
