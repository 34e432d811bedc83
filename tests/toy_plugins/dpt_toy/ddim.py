"""A sampler: deterministic DDIM (Song et al. 2021, eq. 12 without noise), at levels uniform in log-SNR."""

from itertools import pairwise

import torch
from torch import Tensor

from dpt_ray.core.diffusion.denoiser import Denoiser, denoise_at
from dpt_ray.core.diffusion.grids import log_snr_sigmas
from dpt_ray.core.diffusion.samplers import Sampler


@torch.no_grad()
def sample_ddim(denoiser: Denoiser, noise: Tensor, labels: Tensor, sigmas: list[float]) -> Tensor:
    """Return images of the shape of `noise`, (B, C, H, W)."""
    x = sigmas[0] * noise.double()
    for sigma, next_sigma in pairwise(sigmas):
        clean = denoise_at(denoiser, x, sigma, labels)
        x = clean + next_sigma / sigma * (x - clean)
    return x.to(noise.dtype)


DDIM = Sampler(sample_ddim, log_snr_sigmas)
