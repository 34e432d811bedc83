"""The loss of stages 1 and 3: the terms of labelled, pseudo and unlabelled images."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.models.batch_norm import set_auxiliary_rows
from dpt_ray.core.objective import Objective
from dpt_ray.core.pixels import normalise
from dpt_ray.core.semi_supervised.algorithm import Algorithm, Views
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Strong, Weak


class SemiSupervised(Objective):
    """Cross entropy on weak views of labelled images, and the algorithm's loss on unlabelled images.

    Sources: "labelled"; "unlabelled" unless the algorithm's consistency view is "none"; "pseudo" if pseudo images have
    a data order of their own. All views of a step go through the network in one forward pass.

    Args:
        algorithm: computes pseudo-label targets, and holds statistics in buffers.
        mean: channel means of images in [0, 1].
        std: channel standard deviations of images in [0, 1].
        weak: the weak augmentation.
        strong: the strong augmentation.
        num_real: number of real images in the source "labelled", which precede its pseudo images; None if it has no
            pseudo images.
        pseudo_weight: weight of the loss on a pseudo image; the weight of a real image is 1.
        separate_statistics: normalise the source "pseudo" with auxiliary batch-norm statistics, which do not enter the
            running statistics for evaluation (reference: Xie et al. 2020, AdvProp).
    """

    def __init__(
        self,
        algorithm: Algorithm,
        mean: Sequence[float],
        std: Sequence[float],
        weak: Weak,
        strong: Strong,
        *,
        num_real: int | None = None,
        pseudo_weight: float = 1.0,
        separate_statistics: bool = False,
    ):
        super().__init__()
        self.algorithm = algorithm
        self.mean, self.std = tuple(mean), tuple(std)
        self.weak, self.strong = weak, strong
        self.num_real, self.pseudo_weight = num_real, pseudo_weight
        self.separate_statistics = separate_statistics

    def forward(self, model: nn.Module, batches: Mapping[str, ImageBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and metrics. Labels of the unlabelled batch are never read.

        The metrics are `loss` and `labelled_loss`; with unlabelled images also `unlabelled_loss`, `mask_share` (the
        mean weight of unlabelled rows) and the algorithm's own.
        """
        labelled, pseudo = batches["labelled"], batches.get("pseudo")
        unlabelled = batches["unlabelled"] if self.algorithm.consistency_view != "none" else None
        logits = self._predict(model, labelled, unlabelled, pseudo)
        loss = labelled_loss = self._labelled_loss(logits, labelled, pseudo)
        metrics = {"labelled_loss": labelled_loss}
        if unlabelled is not None:
            views = Views(_probabilities(logits["labelled"]), _probabilities(logits["weak"]), unlabelled.index)
            unlabelled_loss, more = self._unlabelled_loss(views, logits[self.algorithm.consistency_view])
            loss = labelled_loss + unlabelled_loss
            metrics |= more
        return loss, {name: value.detach() for name, value in {"loss": loss, **metrics}.items()}

    def _predict(
        self, model: nn.Module, labelled: ImageBatch, unlabelled: ImageBatch | None, pseudo: ImageBatch | None
    ) -> dict[str, Tensor]:
        """Return the logits of every view by name, from one forward pass."""
        views = {"labelled": self.weak(labelled.images, labelled.random)}
        if unlabelled is not None:
            views["weak"] = self.weak(unlabelled.images, unlabelled.random)
            if self.algorithm.consistency_view == "strong":
                views["strong"] = self.strong(unlabelled.images, unlabelled.random)
        if pseudo is not None:  # the last rows of the batch, as `set_auxiliary_rows` expects
            views["pseudo"] = self.weak(pseudo.images, pseudo.random)
            set_auxiliary_rows(model, len(pseudo) if self.separate_statistics else 0)
        logits = model(normalise(torch.cat(list(views.values())), self.mean, self.std)).float()
        return dict(zip(views, logits.split([len(view) for view in views.values()]), strict=True))

    def _labelled_loss(self, logits: dict[str, Tensor], labelled: ImageBatch, pseudo: ImageBatch | None) -> Tensor:
        """Return the mean loss over labelled and pseudo images, with pseudo images weighted by `pseudo_weight`."""
        losses = functional.cross_entropy(logits["labelled"], labelled.labels, reduction="none")
        if self.num_real is not None and self.pseudo_weight != 1:
            losses = losses * torch.where(labelled.index < self.num_real, 1.0, self.pseudo_weight)
        if pseudo is not None:
            pseudo_losses = functional.cross_entropy(logits["pseudo"], pseudo.labels, reduction="none")
            losses = torch.cat([losses, self.pseudo_weight * pseudo_losses])
        return losses.mean()

    def _unlabelled_loss(self, views: Views, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        targets = self.algorithm.compute_targets(views)
        losses = targets.weight * functional.cross_entropy(logits, targets.target, reduction="none")
        unlabelled_loss = targets.scale * losses.mean()
        metrics = {"unlabelled_loss": unlabelled_loss, "mask_share": targets.weight.mean(), **targets.metrics}
        loss = self.algorithm.unlabelled_weight * unlabelled_loss
        if targets.extra is not None:
            loss = loss + targets.extra(logits)
        return loss, metrics


def _probabilities(logits: Tensor) -> Tensor:
    return logits.detach().softmax(dim=1)
