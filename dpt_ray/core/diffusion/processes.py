"""Diffusion processes: what noise a network is trained on and what its output means.

A process defines three things; the training loss and the denoiser follow from them:

- `draw_sigma`: which noise levels are trained, and how often;
- `coefficients`: how the network is wrapped into a denoiser;
- `target`: what the network should output.

Sigma always means the standard deviation in x = clean + sigma * noise; see `denoiser`. Two further
processes have files of their own: `discrete_schedule` and `flow_matching`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.core.diffusion.denoiser import Coefficients, Denoiser, Network, call_network, per_image, preconditioned
from dpt_ray.core.diffusion.weighting import LEAST_SIGMA, Weighting
from dpt_ray.core.row_random import RowRandom


class Process(ABC):
    """A diffusion process; immutable and without parameters, so it can be shared and pickled."""

    @property
    @abstractmethod
    def sigma_min(self) -> float:
        """The noise level at which sampling stops and returns the denoised image, > 0."""

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """The noise level at which sampling starts from pure noise."""

    @property
    def schedule(self) -> "TimedProcess | None":
        """The process itself where its noise levels are a function of time, or None."""
        return None

    @abstractmethod
    def draw_sigma(self, random: RowRandom) -> Tensor:
        """Draw a training noise level for each row: (B,) float32, >= 0."""

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the network's wrapping at noise levels `sigma` (B,), in the dtype of `sigma`."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Return what the network should output, (B, C, H, W), for x = clean + sigma * noise."""

    @abstractmethod
    def reduce(self, squared_error: Tensor) -> Tensor:
        """Reduce the network's squared errors (B, C, H, W) to one loss per image, (B,)."""

    def loss(
        self,
        network: Network,
        images: Tensor,
        labels: Tensor,
        random: RowRandom,
        weighting: Weighting | None = None,
    ) -> Tensor:
        """Return the denoising loss of each image; calls the network once.

        Args:
            network: the network in training.
            images: (B, C, H, W) float32 clean images in [-1, 1].
            labels: (B,) int64 class ids, or the network's null label.
            random: the rows' random streams, for the noise levels and the noise.
            weighting: weight of each noise level; when not given, the process's own: 1 for every level in
                terms of the network's output.

        Returns:
            (B,) float32, differentiable.
        """
        sigma = self.draw_sigma(random)
        noise = random.normal(*images.shape[1:])
        x = images + per_image(sigma) * noise
        output = call_network(network, self.coefficients(sigma), x, labels)
        losses = self.reduce((output - self.target(images, noise, sigma)).square())
        if weighting is None:
            return losses
        level = sigma.clamp(min=LEAST_SIGMA)
        return weighting(level, self.coefficients(level).output) * losses

    def denoiser(self, network: Network) -> Denoiser:
        """Make a denoiser from a network that was trained with this process."""
        return preconditioned(network, self.coefficients)


class TimedProcess(Process):
    """A process whose noise levels are a function of a time in [0, 1], rising from clean images to noise."""

    @abstractmethod
    def sigma_of_time(self, time: Tensor) -> Tensor:
        """Noise levels at times in [0, 1], of the shape and dtype of `time`."""

    @abstractmethod
    def time_of_sigma(self, sigma: Tensor) -> Tensor:
        """Inverse of `sigma_of_time`."""

    @property
    def schedule(self) -> "TimedProcess":
        return self

    def _sigma_at(self, time: float) -> float:
        return self.sigma_of_time(torch.tensor(time, dtype=torch.float64)).item()


class NoisePrediction(TimedProcess):
    """A variance-preserving process whose network predicts the noise.

    State: alpha * clean + sigma' * noise, alpha^2 + sigma'^2 = 1. The loss is the mean over C, H, W of
    (noise - network)^2 (Ho et al. 2020, eq. 14).
    """

    @property
    @abstractmethod
    def time_scale(self) -> float:
        """What time 1 is to the network."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Clean = x - sigma * predicted noise; the network sees alpha * x, of unit variance scale."""
        return Coefficients(
            skip=torch.ones_like(sigma),
            output=-sigma,
            input=(1 + sigma.square()).rsqrt(),
            time=self.time_scale * self.time_of_sigma(sigma),
        )

    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The noise."""
        return noise

    def reduce(self, squared_error: Tensor) -> Tensor:
        """Mean over C, H, W."""
        return squared_error.mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class VariancePreserving(NoisePrediction):
    """The continuous variance-preserving SDE with a noise-predicting network.

    At time t, alpha^2 = exp(-B(t)) with B the integral of beta(t) = beta_min + (beta_max - beta_min) * t
    (Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 32-33). Time is uniform
    in training, and the network is told `time_scale` * t.

    Attributes:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.
        time_scale: what t = 1 is to the network.
        end_time: t at which sampling stops; 0 itself is never reached.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    time_scale: float = 999.0
    end_time: float = 1e-4

    @property
    def sigma_min(self) -> float:
        return self._sigma_at(self.end_time)

    @property
    def sigma_max(self) -> float:
        return self._sigma_at(1.0)

    def sigma_of_time(self, time: Tensor) -> Tensor:
        """Noise-to-signal ratio sigma' / alpha = sqrt(exp(B(t)) - 1) at times in [0, 1]."""
        integral = self.beta_min * time + 0.5 * (self.beta_max - self.beta_min) * time.square()
        return torch.expm1(integral).sqrt()

    def time_of_sigma(self, sigma: Tensor) -> Tensor:
        """Inverse of `sigma_of_time`: the positive root t of B(t) = log(1 + sigma^2)."""
        integral = torch.log1p(sigma.square())
        slope = self.beta_max - self.beta_min
        # The usual root formula with its fraction inverted: it subtracts nothing, so it is accurate near t = 0.
        return 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * slope * integral).sqrt())

    def draw_sigma(self, random: RowRandom) -> Tensor:
        """Noise levels of uniform times in [0, 1), (B,)."""
        return self.sigma_of_time(random.uniform())


@dataclass(frozen=True)
class EdmPreconditioning(Process):
    """EDM's preconditioning and training noise (Karras et al. 2022, table 1 and section 5).

    The network's input and target have unit variance at every noise level for data of standard
    deviation `sigma_data`, training noise levels are log-normal, and the network is told
    ln(sigma) / 4. The paper's loss, weight(sigma) * |denoiser - clean|^2 summed over C, H, W with
    weight = (sigma^2 + sigma_data^2) / (sigma * sigma_data)^2 = 1 / output^2, is the plain squared
    error of the network against `target`.

    Attributes:
        sigma_data: standard deviation of the clean images.
        log_sigma_mean: mean of ln(sigma) in training.
        log_sigma_std: standard deviation of ln(sigma) in training.
        sigma_min: noise level at which sampling stops.
        sigma_max: noise level at which sampling starts.
    """

    sigma_data: float = 0.5
    log_sigma_mean: float = -1.2
    log_sigma_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def draw_sigma(self, random: RowRandom) -> Tensor:
        """Log-normal noise levels, (B,)."""
        return torch.exp(self.log_sigma_mean + self.log_sigma_std * random.normal())

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Table 1, column "Ours"; `sigma` must be > 0."""
        total = sigma.square() + self.sigma_data**2
        return Coefficients(
            skip=self.sigma_data**2 / total,
            output=sigma * self.sigma_data * total.rsqrt(),
            input=total.rsqrt(),
            time=sigma.log() / 4,
        )

    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """(clean - skip * x) / output, with the cancelling terms taken out by hand."""
        level = per_image(sigma)
        norm = self.sigma_data * (level.square() + self.sigma_data**2).sqrt()
        return (level * clean - self.sigma_data**2 * noise) / norm

    def reduce(self, squared_error: Tensor) -> Tensor:
        """Sum over C, H, W."""
        return squared_error.sum(dim=(1, 2, 3))
