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

    State at time t in [0, 1]: (1 - t) * clean + t * noise, so sigma = t / (1 - t). The network's target
    is the state's velocity, noise - clean, the loss its mean squared error over C, H, W (Liu et al. 2023,
    "Flow Straight and Fast", eq. 1; Ma et al. 2024, "SiT"), and it is told `time_scale` * t.

    At t = 1 nothing but noise is left and sigma is infinite, so sampling starts a little before, at
    `start_time`: sigma 99, about where other processes start. At t = 0 it is 0, and sampling ends as it does for
    every process: denoised at `end_time`.

    Attributes:
        times: how times are drawn in training: uniform, or logit-normal, with most of them in the middle
            (Esser et al. 2024, "Scaling Rectified Flow Transformers ...", section 3.1).
        logit_mean: mean of log(t / (1 - t)) in training; logit-normal only.
        logit_std: its standard deviation.
        time_scale: what t = 1 is to the network.
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
        """t / (1 - t): 0 at time 0, infinite at 1."""
        return time / (1 - time)

    def time_of_sigma(self, sigma: Tensor) -> Tensor:
        """sigma / (1 + sigma), written so that both ends come out: 0 at noise 0, 1 at infinite noise."""
        return 1 / (1 + 1 / sigma)

    def draw_sigma(self, random: RowRandom) -> Tensor:
        """Noise levels of uniform or logit-normal times, (B,); the logit of t is the logarithm of sigma."""
        if self.times == "logit_normal":
            return torch.exp(self.logit_mean + self.logit_std * random.normal())
        return self.sigma_of_time(random.uniform())

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Clean = state - t * velocity, with state = (1 - t) * x the network's input."""
        time = self.time_of_sigma(sigma)
        signal = 1 / (1 + sigma)
        return Coefficients(skip=signal, output=-time, input=signal, time=self.time_scale * time)

    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The velocity: it is the same at every noise level."""
        return noise - clean

    def reduce(self, squared_error: Tensor) -> Tensor:
        """Mean over C, H, W."""
        return squared_error.mean(dim=(1, 2, 3))
