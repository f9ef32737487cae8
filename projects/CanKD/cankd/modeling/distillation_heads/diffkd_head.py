from collections import OrderedDict

import torch
import torch.nn.functional as F
from cankd.modeling.levels import LevelPair
from cankd.utils import TooSmallError, UserError
from torch import Tensor, nn

from .denoiser import NUM_TIMESTEPS, Denoiser
from .distillation_head import DistillationHead, StepContext
from .level_dict import LevelDict
from .noise_adapter import NoiseAdapter

__all__ = ["DiffKDHead"]


class DiffKDHead(DistillationHead):
    """DiffKD: the student's feature is denoised by a diffusion model of the teacher's (Huang et al., NeurIPS 2023).

    At each level, with student feature s and teacher feature t, the losses are

    - ``autoencoder``: ``mean((decode(h) - t)^2)`` with ``h = encode(t)``, where there is an autoencoder. What follows
      takes h, or t where there is none, as a constant.
    - ``distance``: ``mean((z - h)^2)``, or for logits ``KL(softmax(h) || softmax(z))``, averaged over images. z is the
      student's adapted feature x, mixed with noise to ``γ x + (1 - γ) ε`` (:class:`NoiseAdapter`), denoised
      (:class:`Denoiser`) and projected.
    - ``diffusion``: ``mean((e(n, k) - ε')^2)``. The denoiser e predicts the noise ε' in n, which is h with noise at a
      random timestep k.

    ``distance`` trains the denoiser, too. Published is classification alone, all weights 1 and 5 steps:

    ========  ==================================  ================  ========
    outputs   levels                              latent_channels   logits
    ========  ==================================  ================  ========
    features  the backbone's last stage           1024              False
    logits    the classifier's output             None              True
    ========  ==================================  ================  ========

    Features and logits are two heads, added up by :class:`SumOfHeads`. For detectors the paper has results but nothing
    of how they were made; the defaults are a plain start there.
    """

    name = "diffkd"
    adapts_channels = False  # its own adapter is always there, and leads to the latent channels

    def __init__(
        self,
        *,
        latent_channels: int | None = None,
        logits: bool = False,
        steps: int = 5,
        weight_distance: float = 1.0,
        weight_diffusion: float = 1.0,
        weight_autoencoder: float = 1.0,
        **kwargs,
    ):
        """
        Args:
            latent_channels: of the autoencoder that narrows, or widens, the teacher's feature; None for no autoencoder.
            logits: whether the levels are logits ``(N, K)``, and not maps.
            steps: of denoising, see :class:`Denoiser`.
            weight_distance, weight_diffusion, weight_autoencoder: factors of the three losses, at least 0.
            kwargs: ``levels``, ``weight`` and others, see :class:`DistillationHead`.

        Raises:
            UserError: if an argument is impossible.
        """
        super().__init__(**kwargs)
        if latent_channels is not None and (logits or latent_channels < 1):
            raise UserError(
                f"latent_channels is {latent_channels} with logits={logits}; it has to be at least 1, and logits have "
                "no autoencoder: set latent_channels=None for them"
            )
        self.latent_channels = latent_channels
        self.logits = logits
        self.steps = steps
        self.term_weights = {"distance": weight_distance, "diffusion": weight_diffusion}
        if latent_channels is not None:
            self.term_weights["autoencoder"] = weight_autoencoder
        if not all(weight >= 0 for weight in self.term_weights.values()):
            raise UserError(f"weights of DiffKD's losses are {self.term_weights}; each has to be 0 or more")
        self.terms = tuple(self.term_weights)
        for part in ("student_adapter", "encoder", "decoder", "noise_adapter", "denoiser", "projection"):
            self.add_module(part, LevelDict())

    def _adapter_of(self, level):
        return self.student_adapter[level]

    def build_level(self, pair: LevelPair) -> None:
        """See :meth:`DistillationHead.build_level`."""
        level, channels = pair.student, self.latent_channels or pair.teacher_channels
        self.student_adapter[level] = nn.Conv2d(pair.student_channels, channels, 1)
        if self.latent_channels is not None:
            self.encoder[level] = _conv_norm(pair.teacher_channels, channels)
            self.decoder[level] = nn.Conv2d(channels, pair.teacher_channels, 1)
        self.noise_adapter[level] = NoiseAdapter(channels=channels, logits=self.logits)
        self.denoiser[level] = Denoiser(channels=channels, steps=self.steps, logits=self.logits)
        self.projection[level] = _conv_norm(channels, channels)

    def compare(self, level: str, student: Tensor, teacher: Tensor, context: StepContext | None) -> dict[str, Tensor]:
        """See :meth:`DistillationHead.compare`; the terms are weighted by their own weights."""
        self._check(level, student)
        if self.logits:
            student, teacher = student[:, :, None, None], teacher[:, :, None, None]
        losses = {}
        if level in self.encoder:
            latent = self.encoder[level](teacher)
            losses["autoencoder"] = F.mse_loss(self.decoder[level](latent), teacher)
            teacher = latent.detach()
        losses["distance"] = self._distance(self._refine(level, student), teacher)
        losses["diffusion"] = self._diffusion_loss(level, teacher)
        return {term: weight * losses[term] for term, weight in self.term_weights.items()}

    def _refine(self, level, student):
        """Denoises the student's feature."""
        x = self.student_adapter[level](student)
        share = self.noise_adapter[level](x)[:, None, None, None]
        mixture = share * x + (1 - share) * self.draw_noise(x)
        return self.projection[level](self.denoiser[level].denoise(mixture))

    def _distance(self, student, teacher):
        if self.logits:
            return F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True)
        return F.mse_loss(student, teacher)

    def _diffusion_loss(self, level, teacher):
        """Trains the denoiser on the teacher's feature."""
        denoiser = self.denoiser[level]
        noise, timesteps = self.draw_noise(teacher), self.draw_timesteps(teacher)
        return F.mse_loss(denoiser(denoiser.add_noise(teacher, noise, timesteps), timesteps), noise)

    def draw_noise(self, x: Tensor) -> Tensor:
        """Draws standard normal noise of a feature's shape."""
        return torch.empty_like(x).normal_(generator=self.generator(x.device))

    def draw_timesteps(self, x: Tensor) -> Tensor:
        """Draws a timestep for each image of a feature ``(N, C, H, W)``: integers, ``(N,)``."""
        return torch.randint(NUM_TIMESTEPS, (len(x),), generator=self.generator(x.device), device=x.device)

    def _check(self, level, student):
        if student.ndim != (2 if self.logits else 4):
            kind, logits = ("a map", False) if self.logits else ("logits", True)
            raise UserError(
                f"level {level!r} is {tuple(student.shape)}, {kind}, and the head has logits={self.logits}: set "
                f"logits={logits}, in a head of their own if there are both"
            )
        if student[:, 0].numel() < 2:
            raise (UserError if self.logits else TooSmallError)(
                f"level {level!r} is {tuple(student.shape)}: DiffKD's batch normalisation needs 2 values a channel. "
                "Train with 2 images or more on each GPU"
            )


def _conv_norm(in_channels, out_channels):
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, out_channels, 1), norm=nn.BatchNorm2d(out_channels)))
