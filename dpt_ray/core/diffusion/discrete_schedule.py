"""The discrete variance-preserving process of Stable Diffusion, with which the paper's U-ViT-H is trained."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from dpt_ray.core.diffusion.processes import NoisePrediction
from dpt_ray.core.row_random import RowRandom


@dataclass(frozen=True)
class DiscreteVariancePreserving(NoisePrediction):
    """A process of `steps` steps; after n of them alpha^2 = (1 - beta_1) ... (1 - beta_n) (Ho et al. 2020, eq. 4).

    The square roots of beta are evenly spaced (Rombach et al. 2022, "High-Resolution Image Synthesis with Latent
    Diffusion Models"). In training n is uniform in 1..steps, and n is the network's time input. Sampling also needs
    levels between steps: time t is n / steps, and log alpha^2 is interpolated linearly, as in DPM-Solver (Lu et al.
    2022).

    Attributes:
        beta_first: beta of step 1.
        beta_last: beta of step `steps`.
        steps: number of steps; the network's input at time 1, too.
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
        """Draw the noise levels of uniform steps, (B,) float32."""
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
