"""Loss weightings: the weight of each noise level in training.

Training minimises the squared error of the *network*, and a weighting multiplies it. Since denoiser - clean = output *
(network - target), a weight w of the denoiser's squared error is the weight w * output^2 of the network's, for any
target. So each weighting is defined for the denoiser, and holds for every process.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

Weighting = Callable[[Tensor, Tensor], Tensor]
"""Maps sigma (B,), > 0, and `Coefficients.output` at sigma, (B,), to the weight of each image's loss, (B,)."""

LEAST_SIGMA = 1e-6
"""Lower noise levels get the weight of this one. The weight has a finite limit at 0, but the formula is 0 / 0 there."""


def min_snr(gamma: float) -> Weighting:
    """Min-SNR-gamma (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy").

    The denoiser's squared error has the weight min(SNR, gamma), with SNR = 1 / sigma^2. The weight of the network's
    squared error is min(SNR, gamma) / SNR if it predicts the noise, min(SNR, gamma) / (SNR + 1) if it predicts the
    velocity of a variance-preserving process, and min(SNR, gamma) if it predicts the clean image.

    Args:
        gamma: largest weight of the denoiser's squared error, > 0; 5 in the paper.

    Raises:
        ValueError: `gamma` is not above 0.
    """
    if not gamma > 0:
        raise ValueError(f"min-SNR's gamma must be above 0: got {gamma}")
    return partial(_min_snr, gamma=gamma)


def edm(sigma_data: float = 0.5) -> Weighting:
    """EDM's weighting, for any process (Karras et al. 2022, table 1).

    The denoiser's squared error has the weight (sigma^2 + sigma_data^2) / (sigma * sigma_data)^2. The weight of the
    network's squared error is 1 with EDM's preconditioning, and 1 + (sigma / sigma_data)^2 if it predicts the noise.

    Args:
        sigma_data: standard deviation of the clean images, > 0.

    Raises:
        ValueError: `sigma_data` is not above 0.
    """
    if not sigma_data > 0:
        raise ValueError(f"EDM's sigma_data must be above 0: got {sigma_data}")
    return partial(_edm, sigma_data=sigma_data)


def _min_snr(sigma: Tensor, output: Tensor, gamma: float) -> Tensor:
    return sigma.square().reciprocal().clamp(max=gamma) * output.square()


def _edm(sigma: Tensor, output: Tensor, sigma_data: float) -> Tensor:
    return (1 + (sigma / sigma_data).square()) * (output / sigma).square()
