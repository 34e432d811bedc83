"""SoftMatch: every pseudo-label counts, the less confident ones less (Chen et al., ICLR 2023)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from dpt_ray.config.schema import Share
from dpt_ray.core.collective import mean_over_workers, num_workers
from dpt_ray.core.semi_supervised.algorithm import Algorithm, Lesson, Task, UnlabelledSettings, Views
from dpt_ray.core.semi_supervised.alignment import RunningDistribution, align


class SoftMatch(Algorithm):
    """Learn argmax q with a weight that falls like a Gaussian below the mean confidence.

    Confidences are those of predictions aligned to a uniform class distribution (uniform alignment); targets are
    those of the predictions as they are.

    Buffers, float32: mu, scalar, the mean confidence, 1 / C at the start; variance, scalar, of confidence, 1 at the
    start.
    """

    class Settings(UnlabelledSettings):
        statistics_momentum: Share = 0.999
        """Share of the old mean, variance and class distribution that a step keeps."""
        sigmas: Annotated[float, Field(gt=0)] = 2.0
        """How many standard deviations make the Gaussian's one: 2 is the authors', 1 the plain formula."""
        uniform_alignment: bool = True
        """Align predictions to a uniform class distribution before they are weighed."""

    settings: Settings
    mu: Tensor
    variance: Tensor

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.register_buffer("mu", torch.tensor(1 / task.num_classes))
        self.register_buffer("variance", torch.tensor(1.0))
        self.distribution = RunningDistribution(task.num_classes, settings.statistics_momentum)

    @torch.no_grad()
    def teach(self, views: Views) -> Lesson:
        q = views.weak
        if self.settings.uniform_alignment:
            uniform = torch.full_like(q[0], 1 / self.task.num_classes)
            q = align(q, self.distribution.update(q), uniform)
        confidence = q.max(dim=1).values
        self.update(confidence)
        return Lesson(self.weigh(confidence), views.weak.argmax(dim=1), metrics={"threshold": self.mu.clone()})

    def update(self, confidence: Tensor) -> None:
        """Move mean and unbiased variance of confidence towards those of all workers' rows (equations 5 and 6)."""
        # In float64: confidences near 1 have a variance that float32 loses in the difference.
        moments = torch.stack([confidence.double().mean(), confidence.double().square().mean()])
        mean, square = mean_over_workers(moments)
        count = len(confidence) * num_workers()
        variance = (square - mean.square()).clamp_min(0) * count / max(1, count - 1)
        share = 1 - self.settings.statistics_momentum
        self.mu.lerp_(mean.to(self.mu), share)
        self.variance.lerp_(variance.to(self.variance), share)

    def weigh(self, confidence: Tensor) -> Tensor:
        """Weight of each row, (B,): 1 above the mean, a truncated Gaussian below it (equation 4)."""
        below = (confidence - self.mu).clamp_max(0)
        return torch.exp(-below.square() * self.settings.sigmas**2 / (2 * self.variance))


ALGORITHM = SoftMatch
