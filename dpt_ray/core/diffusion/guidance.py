"""Guidance: trades diversity for fidelity by extrapolating from a worse estimate through a better one.

Each function returns a denoiser built from denoisers, so that they compose:

    between(guided(denoiser, 0.4, null_label), denoiser, low, high)
    between(autoguided(denoiser, early_snapshot, 1.0), denoiser, low, high)
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from dpt_ray.core.diffusion.denoiser import Denoiser


def guided(denoiser: Denoiser, scale: float, null_label: int, together: bool | None = None) -> Denoiser:
    """Apply classifier-free guidance (Ho & Salimans 2022, eq. 6).

    The result is conditional + scale * (conditional - unconditional), in the sign convention of the DPT paper. Scale 0
    is the conditional model without guidance. Papers that write w * conditional + (1 - w) * unconditional mean w = 1 +
    scale. The paper states the formula for the predicted noise. It holds for the predicted clean image, too, which is
    linear in the noise. Every channel is guided.

    Args:
        denoiser: the unguided denoiser, trained with label dropout.
        scale: guidance scale s >= 0, dimensionless. At 0 `denoiser` itself is returned.
        null_label: the network's label for "no label".
        together: evaluate both estimates in one call of `denoiser` with twice the rows, instead of two calls. If None:
            two calls on a CPU, whose cache twice the rows exceed, and one call on other devices.

    Raises:
        ValueError: `scale` is negative.
    """
    _check_scale(scale)
    if scale == 0:
        return denoiser

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        without = torch.full_like(label, null_label)
        if together or (together is None and x.device.type != "cpu"):
            twice = torch.cat([x, x]), torch.cat([sigma, sigma]), torch.cat([label, without])
            conditional, unconditional = denoiser(*twice).chunk(2)
        else:
            conditional, unconditional = denoiser(x, sigma, label), denoiser(x, sigma, without)
        return conditional + scale * (conditional - unconditional)

    return denoise


def autoguided(denoiser: Denoiser, weak: Denoiser, scale: float) -> Denoiser:
    """Apply autoguidance (Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself").

    The result is denoiser + scale * (denoiser - weak), in the sign convention of `guided`: the paper's w is 1 + scale.
    The weak model is a smaller or less trained one for the same task, such as an early snapshot. Neither model needs
    label dropout. Every channel is guided.

    Args:
        denoiser: the model to guide.
        weak: the weaker model, with the same labels.
        scale: guidance scale s >= 0, dimensionless. At 0 `denoiser` itself is returned; above, each evaluation calls
            both models once.

    Raises:
        ValueError: `scale` is negative.
    """
    _check_scale(scale)
    if scale == 0:
        return denoiser

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        strong = denoiser(x, sigma, label)
        return strong + scale * (strong - weak(x, sigma, label))

    return denoise


def between(inside: Denoiser, outside: Denoiser, low: float, high: float) -> Denoiser:
    """Restrict guidance to noise levels in [low, high] (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited
    Interval Improves Sample and Distribution Quality").

    Each row is evaluated by one of the two denoisers only, so guidance costs nothing outside the interval.

    Args:
        inside: the guided denoiser.
        outside: the unguided denoiser.
        low: lowest noise level of `inside`, >= 0.
        high: highest noise level of `inside`; may be infinite.

    Raises:
        ValueError: not 0 <= low < high.
    """
    if not 0 <= low < high:
        raise ValueError(f"a guidance interval needs 0 <= low < high: got [{low}, {high}]")

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        rows = (low <= sigma) & (sigma <= high)
        if rows.all():
            return inside(x, sigma, label)
        if not rows.any():
            return outside(x, sigma, label)
        result = torch.empty_like(x)
        result[rows] = inside(x[rows], sigma[rows], label[rows])
        result[~rows] = outside(x[~rows], sigma[~rows], label[~rows])
        return result

    return denoise


def guided_levels(sigmas: Iterable[float], low: float, high: float) -> int:
    """Return the number of noise levels in the interval of `between`."""
    return sum(low <= sigma <= high for sigma in sigmas)


def _check_scale(scale: float) -> None:
    if not scale >= 0:
        raise ValueError(f"guidance scale must be >= 0 (0 is no guidance): got {scale}")
