"""What differs between semi-supervised algorithms: the pseudo-label targets of unlabelled images.

Shapes: B unlabelled images of this worker, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dpt_ray.config.section import Section

Weight = Annotated[float, Field(ge=0)]
"""Weight of a term of a loss."""


class UnlabelledSettings(Section):
    """Settings of every algorithm that uses unlabelled images."""

    unlabelled_weight: Weight = 1.0
    """Weight of the loss on unlabelled images."""


@dataclass(frozen=True)
class Task:
    """Sizes of a training, which an algorithm gets besides its settings.

    Attributes:
        num_classes: number of classes, C.
        num_unlabelled: number of images of the unlabelled source.
        total_steps: number of steps of the whole training.
    """

    num_classes: int
    num_unlabelled: int
    total_steps: int


@dataclass(frozen=True)
class Views:
    """Predictions of one step on this worker, without gradients.

    Attributes:
        labelled: float32 (L, C), probabilities of the weak views of the L labelled images.
        weak: float32 (B, C), probabilities of the weak views of the unlabelled images.
        index: int64 (B,), positions of the unlabelled images in their source.
    """

    labelled: Tensor
    weak: Tensor
    index: Tensor


@dataclass(frozen=True)
class PseudoLabelTargets:
    """Targets of this worker's unlabelled images in one step.

    The loss on them is scale * mean(weight * cross entropy(consistency view, target)) + extra(consistency view).

    Attributes:
        weight: float32 (B,), weights in [0, 1].
        target: int64 (B,), class ids, or float32 (B, C), probabilities.
        scale: factor of the mean.
        extra: maps the logits (B, C) of the consistency view to a further loss (scalar, differentiable).
        metrics: name -> a scalar to log.
    """

    weight: Tensor
    target: Tensor
    scale: float | Tensor = 1.0
    extra: Callable[[Tensor], Tensor] | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Algorithm(nn.Module):
    """A semi-supervised algorithm; its statistics are buffers.

    A module `algorithms/<name>.py` defines the algorithm `<name>` as `ALGORITHM`, a subclass with a class `Settings`.
    Statistics are means over the rows of all workers (`core/collective.py`), so that the number of workers does not
    change the method. Workers may hold different numbers of rows.

    Args:
        settings: an instance of the class's `Settings`.
        task: sizes of the training.
    """

    Settings: ClassVar[type[Section]] = UnlabelledSettings
    consistency_view: ClassVar[Literal["none", "weak", "strong"]] = "strong"
    """The view of an unlabelled image whose prediction is trained towards the target; "none" uses no such images."""
    extendable: ClassVar[bool] = False
    """Whether a longer training begins as a shorter one does, so that it may go on from its end. It does if nothing
    follows from `Task.total_steps`."""

    def __init__(self, settings: Section, task: Task):
        super().__init__()
        self.settings, self.task = settings, task
        self.unlabelled_weight: float = getattr(settings, "unlabelled_weight", 0.0)

    @torch.no_grad()
    def compute_targets(self, views: Views) -> PseudoLabelTargets:
        """Update the statistics and return the targets of this step; called once a step.

        Raises:
            TypeError: the subclass does not define it.
        """
        raise TypeError(f"{type(self).__name__} must define compute_targets")
