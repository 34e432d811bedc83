"""A semi-supervised algorithm: strong views learn the probabilities of confident weak views."""

import torch

from dpt_ray.config.section import Share
from dpt_ray.core.semi_supervised.algorithm import Algorithm, PseudoLabelTargets, UnlabelledSettings, Views


class SoftLabels(Algorithm):
    """Learn q where max q >= threshold."""

    class Settings(UnlabelledSettings):
        threshold: Share = 0.8
        """Least confidence of a prediction that counts."""

    settings: Settings

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        """Return the lesson of one step."""
        weight = (views.weak.amax(dim=1) >= self.settings.threshold).float()
        return PseudoLabelTargets(weight, views.weak)
