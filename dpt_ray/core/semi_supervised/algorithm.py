"""What differs between semi-supervised algorithms: which lesson an unlabelled image teaches.

Shapes: B unlabelled images of this worker, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dpt_ray.config.schema import Section

Weight = Annotated[float, Field(ge=0)]
"""Of a term of a loss."""


class UnlabelledSettings(Section):
    """What every algorithm with unlabelled images is given."""

    unlabelled_weight: Weight = 1.0
    """Weight of the loss on unlabelled images."""


@dataclass(frozen=True)
class Task:
    """What an algorithm knows of the training besides its settings.

    Attributes:
        num_classes: C.
        num_unlabelled: images of the unlabelled source.
        total_steps: steps of the whole training.
    """

    num_classes: int
    num_unlabelled: int
    total_steps: int


@dataclass(frozen=True)
class Views:
    """Predictions of one step, without gradients.

    Attributes:
        labelled: probabilities of the labelled images' weak views, (labelled, C).
        weak: probabilities of the unlabelled images' weak views, (B, C).
        index: int64 (B,), the unlabelled images' places in their source.
    """

    labelled: Tensor
    weak: Tensor
    index: Tensor


@dataclass(frozen=True)
class Lesson:
    """What this worker's unlabelled images teach in one step.

    The loss on them is `scale` * mean of weight * CE(target, student) + `extra`.

    Attributes:
        weight: (B,), in [0, 1].
        target: int64 (B,) class ids, or probabilities (B, C).
        scale: of the mean.
        extra: from the student's logits (B, C) to a further scalar loss, differentiable.
        metrics: scalars to log.
    """

    weight: Tensor
    target: Tensor
    scale: float | Tensor = 1.0
    extra: Callable[[Tensor], Tensor] | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Algorithm(nn.Module):
    """A semi-supervised algorithm; its statistics are buffers.

    A module `algorithms/<name>.py` that defines `ALGORITHM`, a subclass with a class `Settings`, is the
    algorithm `<name>`. Statistics are means over all workers' rows (`core/collective.py`), so that
    the number of workers does not change the method; workers hold equally many rows.

    Args:
        settings: an instance of the class's `Settings`.
        task: the training's sizes.
    """

    Settings: ClassVar[type[Section]] = UnlabelledSettings
    student: ClassVar[Literal["none", "weak", "strong"]] = "strong"
    """The view of an unlabelled image that learns; "none" needs no unlabelled images."""

    def __init__(self, settings: Section, task: Task):
        super().__init__()
        self.settings, self.task = settings, task
        self.unlabelled_weight: float = getattr(settings, "unlabelled_weight", 0.0)

    @torch.no_grad()
    def teach(self, views: Views) -> Lesson:
        """Update the statistics and return the lesson of this step; called once a step."""
        raise TypeError(f"{type(self).__name__} must define teach")
