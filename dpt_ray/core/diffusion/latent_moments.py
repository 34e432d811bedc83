"""Latents of images: drawn from an autoencoder's stored moments in training, and scaled for the diffusion process."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.core.row_random import RowRandom

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Log-variances are clamped to it, as in the latent diffusion models that this follows."""


@dataclass(frozen=True)
class LatentScale:
    """What the diffusion process sees of a latent: (latent - shift) * factor, of a standard deviation near 1.

    Attributes:
        factor: of the autoencoder (`scaling_factor` in its configuration), or of the settings.
        shift: of the autoencoder (`shift_factor`).
    """

    factor: float
    shift: float = 0.0

    def apply(self, latents: Tensor) -> Tensor:
        """Scale latents, of any shape."""
        return (latents - self.shift) * self.factor

    def undo(self, latents: Tensor) -> Tensor:
        """Inverse of `apply`: what the decoder takes."""
        return latents / self.factor + self.shift


@dataclass(frozen=True)
class LatentDraw:
    """Draws latents z = mean + exp(log_variance / 2) * eps anew at every visit of an image, and scales them.

    The encoder gives a distribution (Kingma & Welling 2014; Rombach et al. 2022, section 3.1): a stored sample of it
    would be the same one in every epoch.

    Attributes:
        scale: of the latents.
        flips: 2 where every image's moments are followed by those of its mirror image, of which one is taken with
            probability 1/2; else 1.
        has_variance: log-variances follow the means; else the means are the latents.
    """

    scale: LatentScale
    flips: int
    has_variance: bool

    def __call__(self, moments: Tensor, random: RowRandom) -> Tensor:
        """Return latents (B, C, h, w), float32, of moments (B, flips, C or 2 C, h, w) of any float type."""
        chosen = moments[:, 0].float()
        if self.flips == 2:
            mirrored = random.uniform() < 0.5
            chosen = torch.where(mirrored[:, None, None, None], moments[:, 1].float(), chosen)
        if not self.has_variance:
            return self.scale.apply(chosen)
        mean, log_variance = chosen.chunk(2, dim=1)
        deviation = (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
        return self.scale.apply(mean + deviation * random.normal(*mean.shape[1:]))
