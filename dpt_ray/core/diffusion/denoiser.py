"""The denoiser: the interface between networks, guidance and samplers.

Guidance and samplers use the *sigma parameterisation* (Karras et al. 2022): a noisy image is x = clean + sigma *
noise, with clean images in [-1, 1]. The state of a variance-preserving process is alpha * clean + sigma' * noise with
alpha^2 + sigma'^2 = 1. Divided by alpha it is such an x, with sigma = sigma' / alpha. So each sampler is implemented
once for all processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """A neural network as a diffusion process calls it."""

    def __call__(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Map (B, C, H, W) scaled noisy images, (B,) network times and (B,) labels to (B, C, H, W)."""
        ...


class Denoiser(Protocol):
    """An estimate of the clean image, E[clean | x], as a function of x = clean + sigma * noise."""

    def __call__(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Estimate the clean images.

        Args:
            x: (B, C, H, W) noisy images, float32 or float64.
            sigma: (B,) standard deviation of the noise in each image, > 0, of the dtype of `x`.
            label: (B,) int64 class ids, or the network's null label.

        Returns:
            (B, C, H, W), of the dtype of `x`, nominally in [-1, 1].
        """
        ...


@dataclass(frozen=True)
class Coefficients:
    """Coefficients that turn a network into a denoiser at given noise levels (Karras et al. 2022, eq. 7).

        denoiser(x, sigma, label) = skip * x + output * network(input * x, time, label)

    Noise prediction, velocity prediction and EDM's preconditioning all have this form. Each field has shape (B,).

    Attributes:
        skip: weight of the noisy image itself.
        output: weight of the network's output.
        input: scale of the network's input.
        time: the network's input for the noise level.
    """

    skip: Tensor
    output: Tensor
    input: Tensor
    time: Tensor


def per_image(values: Tensor) -> Tensor:
    """Reshape (B,) to (B, 1, 1, 1), which broadcasts over images (B, C, H, W)."""
    return values[:, None, None, None]


def call_network(network: Network, coefficients: Coefficients, x: Tensor, label: Tensor) -> Tensor:
    """Return the network's float32 output for noisy images `x` (B, C, H, W) of any float dtype.

    The input is cast to float32, because a sampler may keep its state in float64. The caller chooses the precision of
    the computation by autocast.
    """
    scaled = per_image(coefficients.input) * x
    return network(scaled.to(torch.float32), coefficients.time.to(torch.float32), label).to(torch.float32)


def denoise_at(denoiser: Denoiser, x: Tensor, sigma: float, label: Tensor) -> Tensor:
    """Estimate the clean images of `x` (B, C, H, W), whose rows all have the noise level `sigma`."""
    return denoiser(x, x.new_full((len(x),), sigma), label)


def preconditioned(network: Network, coefficients_at: Callable[[Tensor], Coefficients]) -> Denoiser:
    """Make a denoiser from a network.

    Args:
        network: maps (scaled noisy images, times, labels) to images.
        coefficients_at: maps sigma (B,) to the coefficients of the process.
    """

    def denoise(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        coefficients = coefficients_at(sigma)
        output = call_network(network, coefficients, x, label).to(x.dtype)
        return per_image(coefficients.skip) * x + per_image(coefficients.output) * output

    return denoise
