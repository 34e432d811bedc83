"""FlexMatch: curriculum pseudo-labelling (Zhang et al., NeurIPS 2021)."""

import torch
from torch import Tensor

from dpt_ray.config.section import Share
from dpt_ray.core.collective import gather_from_workers
from dpt_ray.core.semi_supervised.algorithm import Algorithm, PseudoLabelTargets, Task, UnlabelledSettings, Views

UNLEARNED = -1


class FlexMatch(Algorithm):
    """FixMatch with a lower threshold for classes that are learned less well.

    The learning effect of a class is the number of unlabelled images for which it is the latest confident prediction
    (the paper's equation 5). Buffer `learned`: int32 (N,), that prediction for each image of the source, or
    `UNLEARNED`. No other algorithm here has a statistic that grows with the data. Buffer `counts`: int64 (C + 1,), the
    images without such a prediction and those of each class. It follows from `learned`, so it is in no checkpoint; a
    step changes it for its own images alone.
    """

    class Settings(UnlabelledSettings):
        threshold: Share = 0.95
        """Threshold of the best learned class, and the confidence from which an image counts as learned."""

    extendable = True
    settings: Settings
    learned: Tensor
    counts: Tensor

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.register_buffer("learned", torch.full((task.num_unlabelled,), UNLEARNED, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(task.num_classes + 1, dtype=torch.int64), persistent=False)
        self._counted = False
        self.register_load_state_dict_post_hook(_count_again)

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        confidence, target = views.weak.max(dim=1)
        thresholds = self.thresholds()
        self._remember(views.index, torch.where(confidence >= self.settings.threshold, target, UNLEARNED))
        weight = (confidence >= thresholds[target]).float()
        return PseudoLabelTargets(weight, target, metrics={"threshold": thresholds.mean()})

    def thresholds(self) -> Tensor:
        """Return each class's threshold, (C,): equations 7, 11 (warm-up) and 12 with M(x) = x / (2 - x)."""
        counts = self._known_counts().float()
        beta = counts[1:] / counts.max().clamp_min(1)  # counts[0] is the number of images that are not learned
        return self.settings.threshold * beta / (2 - beta)

    def _known_counts(self) -> Tensor:
        if not self._counted:  # at the start, and after a checkpoint was loaded
            self.counts.copy_(self._count(self.learned))
            self._counted = True
        return self.counts

    def _count(self, learned: Tensor) -> Tensor:
        return (learned + 1).bincount(minlength=self.task.num_classes + 1)

    def _remember(self, index: Tensor, predicted: Tensor) -> None:
        """Store the confident predictions for the rows of all workers; the other rows keep their earlier ones.

        Shapes do not depend on values, so that the step can be captured as a CUDA graph.
        """
        index, predicted = gather_from_workers(torch.stack([index, predicted], dim=1)).unbind(1)
        counts, before = self._known_counts(), self.learned[index].long()
        stored = _last_of_each(index, predicted != UNLEARNED)
        change = stored.long()
        counts.index_add_(0, before + 1, -change).index_add_(0, predicted + 1, change)
        self.learned.index_add_(0, index, torch.where(stored, predicted - before, 0).int())


def _last_of_each(index: Tensor, confident: Tensor) -> Tensor:
    """Return bool (N,): the last confident row of each image, which may occur twice, at the border of two epochs."""
    order = torch.argsort(2 * index + confident, stable=True)
    image = index[order]
    last = torch.cat([image[1:] != image[:-1], torch.ones_like(confident[:1])])
    return torch.zeros_like(confident).scatter(0, order, last & confident[order])


def _count_again(algorithm: FlexMatch, _: object) -> None:
    algorithm._counted = False


ALGORITHM = FlexMatch
