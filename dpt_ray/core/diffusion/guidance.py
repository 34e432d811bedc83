"""Classifier-free guidance: trade diversity for fidelity to the class."""

import torch
from torch import Tensor

from dpt_ray.core.diffusion.denoiser import Denoiser


def guided(denoiser: Denoiser, scale: float, null_label: int) -> Denoiser:
    """Extrapolate from the unconditional through the conditional estimate (Ho & Salimans 2022, eq. 6).

    With the DPT paper's sign convention: conditional + scale * (conditional - unconditional). So
    scale 0 is the plain conditional model, and papers that write w * conditional + (1 - w) *
    unconditional mean w = 1 + scale. The formula is stated for the predicted noise, and the
    predicted clean image is linear in it, so it is the same here. Every channel is guided.

    Args:
        denoiser: the unguided denoiser, trained with label dropout.
        scale: guidance scale s >= 0, dimensionless. At 0 the result is `denoiser` itself; above,
            each evaluation is one call of `denoiser` with twice the rows.
        null_label: the network's label for "no label".

    Raises:
        ValueError: `scale` is negative.
    """
    if not scale >= 0:
        raise ValueError(f"guidance scale must be >= 0 (0 is no guidance): got {scale}")
    if scale == 0:
        return denoiser

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        labels = torch.cat([label, torch.full_like(label, null_label)])
        conditional, unconditional = denoiser(torch.cat([x, x]), torch.cat([sigma, sigma]), labels).chunk(2)
        return conditional + scale * (conditional - unconditional)

    return denoise
