"""FreeMatch: self-adaptive thresholding for semi-supervised learning (Wang et al., ICLR 2023).

Shapes: B unlabelled images of this worker, C classes. q are probabilities of the weak views,
Q of the strong views.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.semi_supervised.augmentation import Strong, Weak, normalise
from dpt_ray.core.training.collective import mean_over_workers
from dpt_ray.core.training.objective import Objective


class FreeMatch(Objective):
    """Learn unlabelled images' strong views from confident predictions on their weak views.

    The loss is CE(labelled) + `unlabelled_weight` * mean of mask * CE(argmax q, Q)
    + `fairness_weight` * fairness loss. All statistics are means over all workers' rows, so the
    number of workers does not change the method; workers must hold equally many rows.

    Buffers, all float32 and 1 / C at the start, follow the batches with `momentum`:
        tau: scalar, the mean confidence max q.
        p_tilde: (C,), the mean probabilities q.
        h_tilde: (C,), the histogram of argmax q.

    Args:
        num_classes: C.
        mean: channel means of images in [0, 1].
        std: channel standard deviations of images in [0, 1].
        weak: the weak augmentation, also of the labelled images.
        strong: the strong augmentation.
        momentum: share of the old statistics kept each step; 0.999 in the paper, for 10^6 steps.
            A run of a few hundred steps needs less, or the thresholds never rise.
        unlabelled_weight: weight of the pseudo-label loss.
        fairness_weight: weight of the fairness loss. 0.001 is the paper's for CIFAR-10; the
            published dual pseudo training runs did not have this loss (0).
    """

    tau: Tensor
    p_tilde: Tensor
    h_tilde: Tensor

    def __init__(
        self,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        weak: Weak,
        strong: Strong,
        momentum: float = 0.999,
        unlabelled_weight: float = 1.0,
        fairness_weight: float = 0.001,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.mean, self.std = tuple(mean), tuple(std)
        self.weak, self.strong = weak, strong
        self.momentum = momentum
        self.unlabelled_weight = unlabelled_weight
        self.fairness_weight = fairness_weight
        self.register_buffer("tau", torch.tensor(1 / num_classes))
        self.register_buffer("p_tilde", torch.full((num_classes,), 1 / num_classes))
        self.register_buffer("h_tilde", torch.full((num_classes,), 1 / num_classes))

    def forward(self, model: nn.Module, batches: Mapping[str, ImageBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of `batches["labelled"]` and `batches["unlabelled"]`, and metrics.

        The metrics are loss, labelled_loss, unlabelled_loss, mask_share (share of unlabelled rows
        that count) and threshold (tau). Labels of the unlabelled batch are never read.
        """
        labelled, unlabelled = batches["labelled"], batches["unlabelled"]
        labelled_logits, weak_logits, strong_logits = self._predict(model, labelled, unlabelled)
        q_BC = weak_logits.detach().softmax(dim=1)
        self.update(q_BC)
        mask, pseudo_labels = self.mask(q_BC)

        labelled_loss = functional.cross_entropy(labelled_logits, labelled.labels)
        unlabelled_loss = (mask * functional.cross_entropy(strong_logits, pseudo_labels, reduction="none")).mean()
        loss = labelled_loss + self.unlabelled_weight * unlabelled_loss
        if self.fairness_weight > 0:
            loss = loss + self.fairness_weight * self.fairness_loss(strong_logits, mask)
        metrics = {
            "loss": loss,
            "labelled_loss": labelled_loss,
            "unlabelled_loss": unlabelled_loss,
            "mask_share": mask.mean(),
            "threshold": self.tau.clone(),
        }
        return loss, {name: value.detach() for name, value in metrics.items()}

    @torch.no_grad()
    def update(self, q_BC: Tensor) -> None:
        """Move the statistics towards this step's weak predictions (paper: self-adaptive thresholding)."""
        confidence, predicted = q_BC.max(dim=1)
        histogram = functional.one_hot(predicted, self.num_classes).float().mean(0)
        step = mean_over_workers(torch.cat([confidence.mean()[None], q_BC.mean(0), histogram]))
        share = 1 - self.momentum
        self.tau.lerp_(step[0], share)
        self.p_tilde.lerp_(step[1 : 1 + self.num_classes], share)
        self.h_tilde.lerp_(step[1 + self.num_classes :], share)

    def thresholds(self) -> Tensor:
        """Confidence that each class asks for, (C,): tau scaled by the class's learning status."""
        return self.tau * self.p_tilde / self.p_tilde.max()

    def mask(self, q_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Return which rows count, float (B,) of 0 and 1, and their pseudo-labels, int64 (B,)."""
        confidence, pseudo_labels = q_BC.max(dim=1)
        return (confidence >= self.thresholds()[pseudo_labels]).float(), pseudo_labels

    def fairness_loss(self, strong_logits: Tensor, mask: Tensor) -> Tensor:
        """Push strong predictions towards the expected class marginal (paper: self-adaptive fairness).

        With p = mean of Q and h = histogram of argmax Q over the masked rows, it is
        sum over classes of N(p_tilde / h_tilde) log(N(p / h) + 1e-12), N scaling to sum 1.
        No masked row anywhere gives 0.

        Args:
            strong_logits: (B, C).
            mask: float (B,) of 0 and 1.
        """
        Q_BC = strong_logits.softmax(dim=1) * mask[:, None]
        histogram = (functional.one_hot(strong_logits.argmax(dim=1), self.num_classes) * mask[:, None]).sum(0)
        own_sum = Q_BC.sum(0)
        # The sums scale out below, so means over workers serve as sums over workers.
        step = mean_over_workers(torch.cat([own_sum.detach(), histogram]))
        # The value is that of all workers' rows; the gradient is this worker's share of it, so that
        # averaging gradients over workers gives the gradient of the whole.
        Q_C = step[: self.num_classes] + (own_sum - own_sum.detach())
        current = _normalised(_ratio(Q_C, step[self.num_classes :]))
        expected = _normalised(_ratio(self.p_tilde, self.h_tilde))
        loss = (expected * (current + 1e-12).log()).sum()
        return torch.where(step[self.num_classes :].sum() > 0, loss, torch.zeros_like(loss))

    def _predict(self, model: nn.Module, labelled: ImageBatch, unlabelled: ImageBatch) -> tuple[Tensor, ...]:
        """Logits of the labelled, unlabelled weak and unlabelled strong views, from one forward pass."""
        views = torch.cat(
            [
                self.weak(labelled.images, labelled.random),
                self.weak(unlabelled.images, unlabelled.random),
                self.strong(unlabelled.images, unlabelled.random),
            ]
        )
        logits = model(normalise(views, self.mean, self.std)).float()
        return logits.split([len(labelled), len(unlabelled), len(unlabelled)])


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient by class, 0 where the denominator is 0."""
    present = denominator > 0
    return torch.where(present, numerator / torch.where(present, denominator, 1.0), 0.0)


def _normalised(values: Tensor) -> Tensor:
    return values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
