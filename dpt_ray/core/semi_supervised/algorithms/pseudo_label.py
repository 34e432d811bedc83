"""Pseudo-label: the network's own confident predictions as labels (Lee, ICML context 2013)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from dpt_ray.config.schema import Share
from dpt_ray.core.semi_supervised.algorithm import Algorithm, Lesson, Task, UnlabelledSettings, Views


class PseudoLabel(Algorithm):
    """Learn argmax q on the weak view itself where max q >= threshold.

    The loss on unlabelled images is scaled by alpha(t), which rises linearly from 0 to 1 (the paper's equation 16
    with T1 = 0). The threshold is the usual addition to it (Sohn et al. 2020, section 2.1).
    """

    class Settings(UnlabelledSettings):
        threshold: Share = 0.95
        """Least confidence of a pseudo-label that counts."""
        warmup_share: Annotated[float, Field(gt=0, le=1)] = 0.4
        """Share of the training over which the loss on unlabelled images rises to its weight."""

    student = "weak"
    settings: Settings
    steps: Tensor

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.register_buffer("steps", torch.tensor(0))

    @torch.no_grad()
    def teach(self, views: Views) -> Lesson:
        confidence, target = views.weak.max(dim=1)
        alpha = (self.steps / (self.settings.warmup_share * self.task.total_steps)).clamp_max(1)
        self.steps.add_(1)
        return Lesson((confidence >= self.settings.threshold).float(), target, scale=alpha)


ALGORITHM = PseudoLabel
