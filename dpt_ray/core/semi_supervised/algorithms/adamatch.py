"""AdaMatch for semi-supervised learning (Berthelot et al., ICLR 2022)."""

import torch

from dpt_ray.config.section import Share
from dpt_ray.core.collective import mean_over_workers
from dpt_ray.core.semi_supervised.algorithm import Algorithm, PseudoLabelTargets, Task, UnlabelledSettings, Views
from dpt_ray.core.semi_supervised.alignment import RunningDistribution, align


class AdaMatch(Algorithm):
    """Align predictions to the class distribution of labelled images; the threshold is relative to their confidence.

    The paper's parts for domain adaptation (random logit interpolation, strong views of labelled images) are left out,
    as in the common benchmark of semi-supervised learning.
    """

    class Settings(UnlabelledSettings):
        threshold: Share = 0.95
        """Least confidence of a pseudo-label in the loss, relative to the mean confidence on labelled images."""
        statistics_momentum: Share = 0.999
        """Share of the old class distributions that a step keeps."""
        hard_labels: bool = True
        """Use the most probable class as the target; false uses the aligned probabilities, as in the paper."""

    extendable = True
    settings: Settings

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        momentum = settings.statistics_momentum
        self.unlabelled_distribution = RunningDistribution(task.num_classes, momentum)
        self.labelled_distribution = RunningDistribution(task.num_classes, momentum, uniform_start=True)

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        wanted = self.labelled_distribution.update(views.labelled)
        q = align(views.weak, self.unlabelled_distribution.update(views.weak), wanted)
        threshold = self.settings.threshold * mean_over_workers(views.labelled.max(dim=1).values.mean())
        confidence, target = q.max(dim=1)
        weight = (confidence >= threshold).float()
        return PseudoLabelTargets(weight, target if self.settings.hard_labels else q, metrics={"threshold": threshold})


ALGORITHM = AdaMatch
