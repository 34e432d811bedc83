"""Loss weightings: how much each noise level counts in training.

A weighting multiplies the squared error of the *network*, which is what training minimises. Since
denoiser - clean = output * (network - target), a weight w on the squared error of the denoiser is
the weight w * output^2 on that of the network, whatever the network predicts. So each weighting is
written once, in terms of the denoiser, and fits every process.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

Weighting = Callable[[Tensor, Tensor], Tensor]
"""(sigma (B,), > 0; `Coefficients.output` at sigma (B,)) -> weight of each image's loss (B,)."""

LEAST_SIGMA = 1e-6
"""Noise levels below are weighted as this one is; the limit at 0 is finite, but its formula is 0 / 0."""


def min_snr(gamma: float) -> Weighting:
    """Min-SNR-gamma (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy").

    The denoiser's squared error has the weight min(SNR, gamma), SNR = 1 / sigma^2. On a network that
    predicts the noise this is min(SNR, gamma) / SNR, on the velocity of a variance-preserving process
    min(SNR, gamma) / (SNR + 1), on the clean image min(SNR, gamma).

    Args:
        gamma: the largest weight of a denoiser's squared error, > 0; the paper's is 5.
    """
    if not gamma > 0:
        raise ValueError(f"min-SNR's gamma must be above 0: got {gamma}")
    return partial(_min_snr, gamma=gamma)


def edm(sigma_data: float = 0.5) -> Weighting:
    """EDM's weighting, for any process (Karras et al. 2022, table 1).

    The denoiser's squared error has the weight (sigma^2 + sigma_data^2) / (sigma * sigma_data)^2. On
    EDM's own network this is 1, on one that predicts the noise 1 + (sigma / sigma_data)^2.

    Args:
        sigma_data: standard deviation of the clean images, > 0.
    """
    if not sigma_data > 0:
        raise ValueError(f"EDM's sigma_data must be above 0: got {sigma_data}")
    return partial(_edm, sigma_data=sigma_data)


def _min_snr(sigma: Tensor, output: Tensor, gamma: float) -> Tensor:
    return sigma.square().reciprocal().clamp(max=gamma) * output.square()


def _edm(sigma: Tensor, output: Tensor, sigma_data: float) -> Tensor:
    return (1 + (sigma / sigma_data).square()) * (output / sigma).square()
