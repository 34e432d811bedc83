"""FixMatch: confident predictions on weak views are targets of strong views (Sohn et al., NeurIPS 2020)."""

import torch

from dpt_ray.config.section import Share
from dpt_ray.core.semi_supervised.algorithm import Algorithm, PseudoLabelTargets, UnlabelledSettings, Views


class FixMatch(Algorithm):
    """The target is argmax q where max q >= threshold (the paper's equation 4)."""

    class Settings(UnlabelledSettings):
        threshold: Share = 0.95
        """Least confidence of a pseudo-label in the loss."""

    extendable = True
    settings: Settings

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        confidence, target = views.weak.max(dim=1)
        return PseudoLabelTargets((confidence >= self.settings.threshold).float(), target)


ALGORITHM = FixMatch
