"""FreeMatch: self-adaptive thresholding for semi-supervised learning (Wang et al., ICLR 2023).

Shapes: B unlabelled images of this worker, C classes. q are the probabilities of weak views, Q those of strong views.
"""

import torch
from torch import Tensor
from torch.nn import functional

from dpt_ray.config.section import Share
from dpt_ray.core.collective import mean_over_workers, relative_rows
from dpt_ray.core.semi_supervised.algorithm import (
    Algorithm,
    PseudoLabelTargets,
    Task,
    UnlabelledSettings,
    Views,
    Weight,
)


class FreeMatch(Algorithm):
    """The target is argmax q where max q reaches a threshold that follows the network's confidence.

    Buffers, all float32, initialised with 1 / C, and updated as moving averages:
        tau: scalar, the mean confidence max q.
        p_tilde: (C,), the mean probabilities q.
        h_tilde: (C,), the histogram of argmax q.
    """

    class Settings(UnlabelledSettings):
        fairness_weight: Weight = 0.001
        """Weight of the fairness loss: 0 reproduces the paper's official run, 0.001 is USB's for CIFAR-10."""
        statistics_momentum: Share = 0.999
        """Share of the old statistics that a step keeps. 0.999 suits 10^6 steps; with a few hundred steps the
        thresholds rise only if it is lower."""

    extendable = True
    settings: Settings
    tau: Tensor
    p_tilde: Tensor
    h_tilde: Tensor

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        classes = task.num_classes
        self.register_buffer("tau", torch.tensor(1 / classes))
        self.register_buffer("p_tilde", torch.full((classes,), 1 / classes))
        self.register_buffer("h_tilde", torch.full((classes,), 1 / classes))

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        self.update(views.weak)
        mask, target = self.mask(views.weak)
        weight = self.settings.fairness_weight
        extra = (lambda logits: weight * self.fairness_loss(logits, mask)) if weight > 0 else None
        return PseudoLabelTargets(mask, target, extra=extra, metrics={"threshold": self.tau.clone()})

    def update(self, q_BC: Tensor) -> None:
        """Move the statistics towards this step's weak predictions (paper: self-adaptive thresholding)."""
        classes = self.task.num_classes
        confidence, predicted = q_BC.max(dim=1)
        histogram = functional.one_hot(predicted, classes).float().mean(0)
        step = mean_over_workers(torch.cat([confidence.mean()[None], q_BC.mean(0), histogram]))
        share = 1 - self.settings.statistics_momentum
        self.tau.lerp_(step[0], share)
        self.p_tilde.lerp_(step[1 : 1 + classes], share)
        self.h_tilde.lerp_(step[1 + classes :], share)

    def thresholds(self) -> Tensor:
        """Return each class's threshold, (C,): tau scaled by the learning status of the class."""
        return self.tau * self.p_tilde / self.p_tilde.max()

    def mask(self, q_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mask of confident rows, float32 (B,) of 0 and 1, and the pseudo-labels, int64 (B,)."""
        confidence, pseudo_labels = q_BC.max(dim=1)
        return (confidence >= self.thresholds()[pseudo_labels]).float(), pseudo_labels

    def fairness_loss(self, strong_logits: Tensor, mask: Tensor) -> Tensor:
        """Push strong predictions towards the expected class marginal (paper: self-adaptive fairness).

        With p the mean of Q and h the histogram of argmax Q over rows with mask 1, it is the sum over classes of
        N(p_tilde / h_tilde) log(N(p / h) + 1e-12), where N scales to sum 1. It is 0 if no worker has such a row.

        Args:
            strong_logits: logits of the strong views, (B, C).
            mask: float32 (B,) of 0 and 1.
        """
        classes = self.task.num_classes
        Q_BC = strong_logits.softmax(dim=1) * mask[:, None]
        histogram = (functional.one_hot(strong_logits.argmax(dim=1), classes) * mask[:, None]).sum(0)
        # The normalisation below cancels constant factors, so means over workers stand for sums over workers. A mean
        # weights each worker by its rows, which a sum contains already.
        own_sum, histogram = Q_BC.sum(0) / relative_rows(), histogram / relative_rows()
        step = mean_over_workers(torch.cat([own_sum.detach(), histogram]))
        # The value includes the rows of all workers, the gradient only this worker's: the average of the workers'
        # gradients, with the same weights, is then the gradient over all rows.
        Q_C = step[:classes] + (own_sum - own_sum.detach())
        current = _normalised(_ratio(Q_C, step[classes:]))
        expected = _normalised(_ratio(self.p_tilde, self.h_tilde))
        loss = (expected * (current + 1e-12).log()).sum()
        return torch.where(step[classes:].sum() > 0, loss, torch.zeros_like(loss))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient for each class, 0 where the denominator is 0."""
    present = denominator > 0
    return torch.where(present, numerator / torch.where(present, denominator, 1.0), 0.0)


def _normalised(values: Tensor) -> Tensor:
    return values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)


ALGORITHM = FreeMatch
