"""SoftMatch: all pseudo-labels are used, weighted by confidence (Chen et al., ICLR 2023)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from dpt_ray.config.section import Share
from dpt_ray.core.collective import mean_over_workers, rows_of_workers
from dpt_ray.core.semi_supervised.algorithm import Algorithm, PseudoLabelTargets, Task, UnlabelledSettings, Views
from dpt_ray.core.semi_supervised.alignment import RunningDistribution, align


class SoftMatch(Algorithm):
    """The target is argmax q, with a weight that falls like a Gaussian below the mean confidence.

    The confidence is that of the aligned prediction (uniform alignment); the target comes from the original one.

    Buffers, float32 and updated as moving averages:
        mu: scalar, the mean confidence, initialised with 1 / C.
        variance: scalar, the variance of the confidence, initialised with 1.
    """

    class Settings(UnlabelledSettings):
        statistics_momentum: Share = 0.999
        """Share of the old mean, variance and class distribution that a step keeps."""
        sigmas: Annotated[float, Field(gt=0)] = 2.0
        """Ratio of the measured standard deviation to the Gaussian's: 2 in the authors' code, 1 in the paper's
        formula."""
        uniform_alignment: bool = True
        """Align predictions to a uniform class distribution before their weight is computed."""

    extendable = True
    settings: Settings
    mu: Tensor
    variance: Tensor

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.register_buffer("mu", torch.tensor(1 / task.num_classes))
        self.register_buffer("variance", torch.tensor(1.0))
        self.distribution = RunningDistribution(task.num_classes, settings.statistics_momentum)

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        q = views.weak
        if self.settings.uniform_alignment:
            uniform = torch.full_like(q[0], 1 / self.task.num_classes)
            q = align(q, self.distribution.update(q), uniform)
        confidence = q.max(dim=1).values
        self.update(confidence)
        return PseudoLabelTargets(
            self.weigh(confidence), views.weak.argmax(dim=1), metrics={"threshold": self.mu.clone()}
        )

    def update(self, confidence: Tensor) -> None:
        """Update mean and unbiased variance of the confidence with the rows of all workers (equations 5 and 6)."""
        # In float64: for confidences near 1 the difference of moments cancels in float32.
        moments = torch.stack([confidence.double().mean(), confidence.double().square().mean()])
        mean, square = mean_over_workers(moments)
        count = sum(rows_of_workers(len(confidence)))
        variance = (square - mean.square()).clamp_min(0) * count / max(1, count - 1)
        share = 1 - self.settings.statistics_momentum
        self.mu.lerp_(mean.to(self.mu), share)
        self.variance.lerp_(variance.to(self.variance), share)

    def weigh(self, confidence: Tensor) -> Tensor:
        """Return each row's weight, (B,): 1 above the mean, a truncated Gaussian below it (equation 4)."""
        below = (confidence - self.mu).clamp_max(0)
        return torch.exp(-below.square() * self.settings.sigmas**2 / (2 * self.variance))


ALGORITHM = SoftMatch
