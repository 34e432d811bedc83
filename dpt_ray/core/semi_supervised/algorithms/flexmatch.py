"""FlexMatch: curriculum pseudo-labelling (Zhang et al., NeurIPS 2021)."""

import torch
from torch import Tensor

from dpt_ray.config.schema import Share
from dpt_ray.core.collective import gather_from_workers
from dpt_ray.core.semi_supervised.algorithm import Algorithm, Lesson, Task, UnlabelledSettings, Views

UNLEARNED = -1


class FlexMatch(Algorithm):
    """FixMatch whose threshold is lower for classes that are learned less.

    A class's learning effect is the number of unlabelled images whose latest confident prediction it is (the paper's
    equation 5). Buffer `learned`: int32 (N,), that prediction for each image of the source, `UNLEARNED` where there is
    none yet. It is the only statistic in the menu that grows with the data.
    """

    class Settings(UnlabelledSettings):
        threshold: Share = 0.95
        """Confidence that the best learned class asks for, and that counts an image as learned."""

    settings: Settings
    learned: Tensor

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.register_buffer("learned", torch.full((task.num_unlabelled,), UNLEARNED, dtype=torch.int32))

    @torch.no_grad()
    def teach(self, views: Views) -> Lesson:
        confidence, target = views.weak.max(dim=1)
        thresholds = self.thresholds()
        self._remember(views.index, torch.where(confidence >= self.settings.threshold, target, UNLEARNED))
        weight = (confidence >= thresholds[target]).float()
        return Lesson(weight, target, metrics={"threshold": thresholds.mean()})

    def thresholds(self) -> Tensor:
        """Confidence that each class asks for, (C,): equations 7, 11 (warm-up) and 12 with M(x) = x / (2 - x)."""
        counts = (self.learned + 1).bincount(minlength=self.task.num_classes + 1).float()
        beta = counts[1:] / counts.max().clamp_min(1)  # counts[0]: images that are not learned
        return self.settings.threshold * beta / (2 - beta)

    def _remember(self, index: Tensor, predicted: Tensor) -> None:
        """Note the confident predictions of all workers' rows; the others leave what was known."""
        index, predicted = gather_from_workers(torch.stack([index, predicted], dim=1)).unbind(1)
        confident = predicted != UNLEARNED
        self.learned[index[confident]] = predicted[confident].int()


ALGORITHM = FlexMatch
