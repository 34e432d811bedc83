"""Latents of images: sampled from an autoencoder's stored moments, and scaled for the diffusion process."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.core.row_random import RowRandom

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Log-variances are clamped to this range, as in latent diffusion models (Rombach et al. 2022, released code)."""


@dataclass(frozen=True)
class LatentScale:
    """The affine map (latent - shift) * factor, which gives latents a standard deviation near 1 for diffusion.

    Attributes:
        factor: `scaling_factor` of the autoencoder's configuration, or `stage2.latents.scale` of the settings.
        shift: `shift_factor` of the autoencoder's configuration.
    """

    factor: float
    shift: float = 0.0

    def apply(self, latents: Tensor) -> Tensor:
        """Scale latents of any shape."""
        return (latents - self.shift) * self.factor

    def undo(self, latents: Tensor) -> Tensor:
        """Invert `apply`; the result is the decoder's input."""
        return latents / self.factor + self.shift


@dataclass(frozen=True)
class LatentDraw:
    """Samples latents z = mean + exp(log_variance / 2) * eps at every visit of an image, and scales them.

    The encoder returns a distribution (Kingma & Welling 2014; Rombach et al. 2022, section 3.1). A stored sample would
    be the same in every epoch, so the moments are stored.

    Attributes:
        scale: scaling of the latents.
        flips: 2 if the moments of each image and of its mirror image are stored, of which one is chosen with
            probability 1/2; 1 if only those of the image are.
        has_variance: log-variances follow the means. If False, the means are the latents.
    """

    scale: LatentScale
    flips: int
    has_variance: bool

    def __call__(self, moments: Tensor, random: RowRandom) -> Tensor:
        """Return latents (B, C, h, w) float32 of moments (B, flips, C or 2 C, h, w) of any float type."""
        chosen = moments[:, 0].float()
        if self.flips == 2:
            mirrored = random.uniform() < 0.5
            chosen = torch.where(mirrored[:, None, None, None], moments[:, 1].float(), chosen)
        if not self.has_variance:
            return self.scale.apply(chosen)
        mean, log_variance = chosen.chunk(2, dim=1)
        deviation = (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
        return self.scale.apply(mean + deviation * random.normal(*mean.shape[1:]))
