"""The discrete variance-preserving process of Stable Diffusion, which the paper's U-ViT-H is trained with."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from dpt_ray.core.diffusion.processes import NoisePrediction
from dpt_ray.core.row_random import RowRandom


@dataclass(frozen=True)
class DiscreteVariancePreserving(NoisePrediction):
    """Noise in `steps` steps, alpha^2 = product of (1 - beta) over the first n (Ho et al. 2020, eq. 4).

    The square roots of beta are evenly spaced (Rombach et al. 2022, "High-Resolution Image Synthesis
    with Latent Diffusion Models"). In training n is uniform in 1..steps and the network is told n.
    Sampling needs levels between them: time t is n / steps, and log alpha^2 is linear from one n to the next, as in
    DPM-Solver (Lu et al. 2022).

    Attributes:
        beta_first: beta of step 1.
        beta_last: beta of step `steps`.
        steps: number of steps, which is also what time 1 is to the network.
    """

    beta_first: float = 0.00085
    beta_last: float = 0.012
    steps: int = 1000

    @property
    def time_scale(self) -> float:
        return float(self.steps)

    @property
    def sigma_min(self) -> float:
        """The noise of step 1."""
        return self._sigma_at(1 / self.steps)

    @property
    def sigma_max(self) -> float:
        """The noise of the last step."""
        return self._sigma_at(1.0)

    def draw_sigma(self, random: RowRandom) -> Tensor:
        """Noise levels of uniform steps, (B,)."""
        return self.sigma_of_time((random.integers(self.steps) + 1).to(torch.float32) / self.steps)

    def sigma_of_time(self, time: Tensor) -> Tensor:
        """Noise-to-signal ratio sqrt(1 / alpha^2 - 1) at times in [0, 1]."""
        depth = self._depths(time.device)
        position = time.double() * self.steps
        below = position.floor().clamp(0, self.steps - 1).long()
        value = depth[below] + (position - below) * (depth[below + 1] - depth[below])
        return torch.expm1(value).sqrt().to(time.dtype)

    def time_of_sigma(self, sigma: Tensor) -> Tensor:
        """Inverse of `sigma_of_time`."""
        depth = self._depths(sigma.device)
        value = torch.log1p(sigma.double().square())
        below = (torch.searchsorted(depth, value, right=True) - 1).clamp(0, self.steps - 1)
        fraction = (value - depth[below]) / (depth[below + 1] - depth[below])
        return ((below + fraction) / self.steps).to(sigma.dtype)

    def _depths(self, device: torch.device) -> Tensor:
        return _depths(self.beta_first, self.beta_last, self.steps, device)


@cache
def _depths(beta_first: float, beta_last: float, steps: int, device: torch.device) -> Tensor:
    """Return -log alpha^2 after n = 0..steps steps, rising from 0, float64."""
    beta = torch.linspace(beta_first**0.5, beta_last**0.5, steps, dtype=torch.float64).square()
    return torch.cat([torch.zeros(1, dtype=torch.float64), -torch.log1p(-beta).cumsum(0)]).to(device)
