"""Diffusion processes: the noise that a network is trained on, and the meaning of its output.

A process defines three things; the training loss and the denoiser follow from them:

- `draw_sigma`: the distribution of noise levels in training;
- `coefficients`: the coefficients that turn the network into a denoiser;
- `target`: the regression target of the network.

Sigma always means the standard deviation in x = clean + sigma * noise; see `denoiser`. `discrete_schedule` and
`flow_matching` hold two further processes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dpt_ray.core.diffusion.denoiser import Coefficients, Denoiser, Network, call_network, per_image, preconditioned
from dpt_ray.core.diffusion.weighting import LEAST_SIGMA, Weighting
from dpt_ray.core.row_random import RowRandom


class Process(ABC):
    """A diffusion process. It is immutable and has no trainable parameters, so it can be shared and pickled."""

    @property
    @abstractmethod
    def sigma_min(self) -> float:
        """The noise level at which sampling stops, > 0."""

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """The noise level at which sampling starts, from noise only."""

    @property
    def schedule(self) -> "TimedProcess | None":
        """The process itself if its noise levels are a function of time; None otherwise."""
        return None

    @abstractmethod
    def draw_sigma(self, random: RowRandom) -> Tensor:
        """Draw a noise level for each row in training: (B,) float32, >= 0."""

    @abstractmethod
    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients of the denoiser at noise levels `sigma` (B,), in the dtype of `sigma`."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Return the network's regression target (B, C, H, W) for x = clean + sigma * noise."""

    @abstractmethod
    def reduce(self, squared_error: Tensor) -> Tensor:
        """Reduce squared errors (B, C, H, W) of the network to one loss for each image, (B,)."""

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
            network: the network that is trained.
            images: (B, C, H, W) float32 clean images in [-1, 1].
            labels: (B,) int64 class ids, or the network's null label.
            random: the rows' random streams, for the noise levels and the noise.
            weighting: weight of each noise level. If None, the squared error of the network has weight 1 at every
                level.

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
    """A process whose noise levels increase with a time in [0, 1], from clean images to noise."""

    @abstractmethod
    def sigma_of_time(self, time: Tensor) -> Tensor:
        """Return noise levels at times in [0, 1], of the shape and dtype of `time`."""

    @abstractmethod
    def time_of_sigma(self, sigma: Tensor) -> Tensor:
        """Return the times of noise levels; the inverse of `sigma_of_time`."""

    @property
    def schedule(self) -> "TimedProcess":
        return self

    def _sigma_at(self, time: float) -> float:
        return self.sigma_of_time(torch.tensor(time, dtype=torch.float64)).item()


class NoisePrediction(TimedProcess):
    """A variance-preserving process whose network predicts the noise.

    The state is alpha * clean + sigma' * noise with alpha^2 + sigma'^2 = 1. The loss is the mean of (noise - network)^2
    over C, H, W (Ho et al. 2020, eq. 14).
    """

    @property
    @abstractmethod
    def time_scale(self) -> float:
        """The network's time input at time 1."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return coefficients of clean = x - sigma * predicted noise; the network's input is alpha * x, the state."""
        return Coefficients(
            skip=torch.ones_like(sigma),
            output=-sigma,
            input=(1 + sigma.square()).rsqrt(),
            time=self.time_scale * self.time_of_sigma(sigma),
        )

    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Return the noise."""
        return noise

    def reduce(self, squared_error: Tensor) -> Tensor:
        """Mean over C, H, W."""
        return squared_error.mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class VariancePreserving(NoisePrediction):
    """The continuous variance-preserving SDE with a noise-predicting network.

    At time t, alpha^2 = exp(-B(t)) with B the integral of beta(t) = beta_min + (beta_max - beta_min) * t
    (Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 32-33). In training t is uniform, and the
    network's time input is `time_scale` * t.

    Attributes:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.
        time_scale: the network's time input at t = 1.
        end_time: t at which sampling stops, > 0.
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
        """Return noise-to-signal ratios sigma' / alpha = sqrt(exp(B(t)) - 1) at times in [0, 1]."""
        integral = self.beta_min * time + 0.5 * (self.beta_max - self.beta_min) * time.square()
        return torch.expm1(integral).sqrt()

    def time_of_sigma(self, sigma: Tensor) -> Tensor:
        """Return the positive root t of B(t) = log(1 + sigma^2)."""
        integral = torch.log1p(sigma.square())
        slope = self.beta_max - self.beta_min
        # The quadratic formula with its fraction inverted. It has no difference of close numbers, so it is accurate
        # near t = 0.
        return 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * slope * integral).sqrt())

    def draw_sigma(self, random: RowRandom) -> Tensor:
        """Draw the noise levels of uniform times in [0, 1), (B,) float32."""
        return self.sigma_of_time(random.uniform())


@dataclass(frozen=True)
class EdmPreconditioning(Process):
    """EDM's preconditioning and training noise (Karras et al. 2022, table 1 and section 5).

    For data of standard deviation `sigma_data`, the network's input and target have unit variance at every noise
    level. Noise levels are log-normal in training, and the network's time input is ln(sigma) / 4. The paper's loss is
    weight(sigma) * |denoiser - clean|^2 summed over C, H, W, with weight = (sigma^2 + sigma_data^2) / (sigma *
    sigma_data)^2 = 1 / output^2. It equals the unweighted squared error of the network against `target`.

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
        """Draw log-normal noise levels, (B,) float32."""
        return torch.exp(self.log_sigma_mean + self.log_sigma_std * random.normal())

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients of table 1, column "Ours"; `sigma` must be > 0."""
        total = sigma.square() + self.sigma_data**2
        return Coefficients(
            skip=self.sigma_data**2 / total,
            output=sigma * self.sigma_data * total.rsqrt(),
            input=total.rsqrt(),
            time=sigma.log() / 4,
        )

    def target(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Return (clean - skip * x) / output, simplified so that nothing cancels numerically."""
        level = per_image(sigma)
        norm = self.sigma_data * (level.square() + self.sigma_data**2).sqrt()
        return (level * clean - self.sigma_data**2 * noise) / norm

    def reduce(self, squared_error: Tensor) -> Tensor:
        """Return the sum over C, H, W."""
        return squared_error.sum(dim=(1, 2, 3))
