"""FixMatch: strong views learn confident predictions on weak views (Sohn et al., NeurIPS 2020)."""

import torch

from dpt_ray.config.schema import Share
from dpt_ray.core.semi_supervised.algorithm import Algorithm, Lesson, UnlabelledSettings, Views


class FixMatch(Algorithm):
    """Learn argmax q where max q >= threshold (the paper's equation 4)."""

    class Settings(UnlabelledSettings):
        threshold: Share = 0.95
        """Least confidence of a pseudo-label that counts."""

    settings: Settings

    @torch.no_grad()
    def teach(self, views: Views) -> Lesson:
        confidence, target = views.weak.max(dim=1)
        return Lesson((confidence >= self.settings.threshold).float(), target)


ALGORITHM = FixMatch
