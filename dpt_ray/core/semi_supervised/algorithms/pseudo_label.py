"""Pseudo-label: the network's confident predictions are labels (Lee, ICML workshop 2013)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from dpt_ray.config.section import Share
from dpt_ray.core.semi_supervised.algorithm import Algorithm, PseudoLabelTargets, Task, UnlabelledSettings, Views


class PseudoLabel(Algorithm):
    """The target of the weak view is its own argmax q where max q >= threshold.

    The loss on unlabelled images is scaled by alpha(t), which rises linearly from 0 to 1 (the paper's equation 16 with
    T1 = 0). The threshold is a common addition (Sohn et al. 2020, section 2.1).
    """

    class Settings(UnlabelledSettings):
        threshold: Share = 0.95
        """Least confidence of a pseudo-label in the loss."""
        warmup_share: Annotated[float, Field(gt=0, le=1)] = 0.4
        """Share of the training over which the weight of the loss on unlabelled images rises linearly."""

    consistency_view = "weak"
    settings: Settings
    steps: Tensor

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.register_buffer("steps", torch.tensor(0))

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        confidence, target = views.weak.max(dim=1)
        alpha = (self.steps / (self.settings.warmup_share * self.task.total_steps)).clamp_max(1)
        self.steps.add_(1)
        return PseudoLabelTargets((confidence >= self.settings.threshold).float(), target, scale=alpha)


ALGORITHM = PseudoLabel
