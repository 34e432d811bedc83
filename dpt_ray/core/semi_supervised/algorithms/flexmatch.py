"""FlexMatch: curriculum pseudo-labelling (Zhang et al., NeurIPS 2021)."""

import torch
from torch import Tensor

from dpt_ray.config.schema import Share
from dpt_ray.core.collective import gather_from_workers
from dpt_ray.core.semi_supervised.algorithm import Algorithm, PseudoLabelTargets, Task, UnlabelledSettings, Views

UNLEARNED = -1


class FlexMatch(Algorithm):
    """FixMatch with a lower threshold for classes that are learned less well.

    The learning effect of a class is the number of unlabelled images for which it is the latest confident prediction
    (the paper's equation 5). Buffer `learned`: int32 (N,), that prediction for each image of the source, or
    `UNLEARNED`. No other algorithm here has a statistic that grows with the data.
    """

    class Settings(UnlabelledSettings):
        threshold: Share = 0.95
        """Threshold of the best learned class, and the confidence from which an image counts as learned."""

    extendable = True
    settings: Settings
    learned: Tensor

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.register_buffer("learned", torch.full((task.num_unlabelled,), UNLEARNED, dtype=torch.int32))

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        confidence, target = views.weak.max(dim=1)
        thresholds = self.thresholds()
        self._remember(views.index, torch.where(confidence >= self.settings.threshold, target, UNLEARNED))
        weight = (confidence >= thresholds[target]).float()
        return PseudoLabelTargets(weight, target, metrics={"threshold": thresholds.mean()})

    def thresholds(self) -> Tensor:
        """Return each class's threshold, (C,): equations 7, 11 (warm-up) and 12 with M(x) = x / (2 - x)."""
        counts = (self.learned + 1).bincount(minlength=self.task.num_classes + 1).float()
        beta = counts[1:] / counts.max().clamp_min(1)  # counts[0] is the number of images that are not learned
        return self.settings.threshold * beta / (2 - beta)

    def _remember(self, index: Tensor, predicted: Tensor) -> None:
        """Store the confident predictions for the rows of all workers; the other rows keep their earlier ones."""
        index, predicted = gather_from_workers(torch.stack([index, predicted], dim=1)).unbind(1)
        confident = predicted != UNLEARNED
        self.learned[index[confident]] = predicted[confident].int()


ALGORITHM = FlexMatch
