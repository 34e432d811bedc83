"""The training step of stages 1 and 3: what labelled, pseudo and unlabelled images add to the loss."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.models.batch_norm import set_rows_apart
from dpt_ray.core.objective import Objective
from dpt_ray.core.pixels import normalise
from dpt_ray.core.semi_supervised.algorithm import Algorithm, Views
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Strong, Weak


class SemiSupervised(Objective):
    """CE on the weak views of labelled images, and what `algorithm` teaches of unlabelled ones.

    Sources: "labelled"; "unlabelled" unless the algorithm's student is "none"; "pseudo" where pseudo images are
    drawn apart from labelled ones. All views of a step pass through the network at once.

    Args:
        algorithm: the method, with its statistics.
        mean: channel means of images in [0, 1].
        std: channel standard deviations of images in [0, 1].
        weak: the weak augmentation.
        strong: the strong augmentation.
        num_real: images of the source "labelled" before the pseudo images in it; None where there are none.
        pseudo_weight: weight of the loss on a pseudo image; 1 is a real one's.
        separate_statistics: normalise the images of the source "pseudo" by statistics of their own, and keep them
            out of the running ones, which evaluate real images (in the manner of Xie et al. 2020, AdvProp).
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

        The metrics are loss and labelled_loss, and with unlabelled images unlabelled_loss, mask_share (mean weight
        of unlabelled rows) and what the algorithm adds.
        """
        labelled, pseudo = batches["labelled"], batches.get("pseudo")
        unlabelled = batches["unlabelled"] if self.algorithm.student != "none" else None
        logits = self._predict(model, labelled, unlabelled, pseudo)
        loss = labelled_loss = self._labelled_loss(logits, labelled, pseudo)
        metrics = {"labelled_loss": labelled_loss}
        if unlabelled is not None:
            views = Views(_probabilities(logits["labelled"]), _probabilities(logits["weak"]), unlabelled.index)
            unlabelled_loss, told = self._unlabelled_loss(views, logits[self.algorithm.student])
            loss = labelled_loss + unlabelled_loss
            metrics |= told
        return loss, {name: value.detach() for name, value in {"loss": loss, **metrics}.items()}

    def _predict(
        self, model: nn.Module, labelled: ImageBatch, unlabelled: ImageBatch | None, pseudo: ImageBatch | None
    ) -> dict[str, Tensor]:
        """Return the logits of every view by name, from one forward pass."""
        views = {"labelled": self.weak(labelled.images, labelled.random)}
        if unlabelled is not None:
            views["weak"] = self.weak(unlabelled.images, unlabelled.random)
            if self.algorithm.student == "strong":
                views["strong"] = self.strong(unlabelled.images, unlabelled.random)
        if pseudo is not None:  # the last rows, see `set_rows_apart`
            views["pseudo"] = self.weak(pseudo.images, pseudo.random)
            set_rows_apart(model, len(pseudo) if self.separate_statistics else 0)
        logits = model(normalise(torch.cat(list(views.values())), self.mean, self.std)).float()
        return dict(zip(views, logits.split([len(view) for view in views.values()]), strict=True))

    def _labelled_loss(self, logits: dict[str, Tensor], labelled: ImageBatch, pseudo: ImageBatch | None) -> Tensor:
        """Mean over the step's rows of known class, those of pseudo images weighted."""
        losses = functional.cross_entropy(logits["labelled"], labelled.labels, reduction="none")
        if self.num_real is not None and self.pseudo_weight != 1:
            losses = losses * torch.where(labelled.index < self.num_real, 1.0, self.pseudo_weight)
        if pseudo is not None:
            of_pseudo = functional.cross_entropy(logits["pseudo"], pseudo.labels, reduction="none")
            losses = torch.cat([losses, self.pseudo_weight * of_pseudo])
        return losses.mean()

    def _unlabelled_loss(self, views: Views, student: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        lesson = self.algorithm.teach(views)
        losses = lesson.weight * functional.cross_entropy(student, lesson.target, reduction="none")
        unlabelled_loss = lesson.scale * losses.mean()
        metrics = {"unlabelled_loss": unlabelled_loss, "mask_share": lesson.weight.mean(), **lesson.metrics}
        loss = self.algorithm.unlabelled_weight * unlabelled_loss
        if lesson.extra is not None:
            loss = loss + lesson.extra(student)
        return loss, metrics


def _probabilities(logits: Tensor) -> Tensor:
    return logits.detach().softmax(dim=1)
