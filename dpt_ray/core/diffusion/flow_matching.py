"""Flow matching on the linear path: rectified flow, or an interpolant as in SiT."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dpt_ray.core.diffusion.denoiser import Coefficients
from dpt_ray.core.diffusion.processes import TimedProcess
from dpt_ray.core.row_random import RowRandom


@dataclass(frozen=True)
class FlowMatching(TimedProcess):
    """The straight line from clean image to noise, with a velocity-predicting network.

    The state at time t in [0, 1] is (1 - t) * clean + t * noise, so sigma = t / (1 - t). The network's target is the
    velocity of the state, noise - clean. The loss is the mean squared error over C, H, W (Liu et al. 2023, "Flow
    Straight and Fast", eq. 1; Ma et al. 2024, "SiT"). The network's time input is `time_scale` * t.

    Sigma is infinite at t = 1. So sampling starts at `start_time`, where sigma is 99, similar to other processes. It
    ends by denoising at `end_time`, as for every process.

    Attributes:
        times: distribution of t in training: uniform, or logit-normal, which favours the middle of the interval
            (Esser et al. 2024, "Scaling Rectified Flow Transformers ...", section 3.1).
        logit_mean: mean of log(t / (1 - t)) in training; logit-normal only.
        logit_std: standard deviation of log(t / (1 - t)) in training; logit-normal only.
        time_scale: the network's time input at t = 1.
        start_time: t at which sampling starts, < 1.
        end_time: t at which sampling stops, > 0.
    """

    times: Literal["uniform", "logit_normal"] = "uniform"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    time_scale: float = 999.0
    start_time: float = 0.99
    end_time: float = 0.001

    @property
    def sigma_min(self) -> float:
        return self._sigma_at(self.end_time)

    @property
    def sigma_max(self) -> float:
        return self._sigma_at(self.start_time)

    def sigma_of_time(self, time: Tensor) -> Tensor:
        """Return t / (1 - t): 0 at time 0, infinite at 1."""
        return time / (1 - time)

    def time_of_sigma(self, sigma: Tensor) -> Tensor:
        """Return sigma / (1 + sigma), in a form that is right at both ends: 0 at sigma 0, 1 at infinite sigma."""
        return 1 / (1 + 1 / sigma)

    def draw_sigma(self, random: RowRandom) -> Tensor:
        """Draw the noise levels of uniform or logit-normal times, (B,) float32; log(t / (1 - t)) is log(sigma)."""
        if self.times == "logit_normal":
            return torch.exp(self.logit_mean + self.logit_std * random.normal())
        return self.sigma_of_time(random.uniform())

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return coefficients of clean = state - t * velocity, where the state (1 - t) * x is the network's input."""
        time = self.time_of_sigma(sigma)
        signal = 1 / (1 + sigma)
        return Coefficients(skip=signal, output=-time, input=signal, time=self.time_scale * time)

    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Return the velocity, noise - clean; it does not depend on the noise level."""
        return noise - clean

    def reduce(self, squared_error: Tensor) -> Tensor:
        """Return the mean over C, H, W."""
        return squared_error.mean(dim=(1, 2, 3))
