"""What receives the measurements of a run: files beside it, or the services of others."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from dpt_ray.distributed.measurements import Measurement, Picture
from dpt_ray.pipeline.artifacts.run_record import Outcome

PICTURES_FOLDER = "pictures"
"""Below the run's folder."""
FIGURES = "evaluation"
"""The group of the figures of a run among the measurements of its steps."""


class Tracker(Protocol):
    """Receives measurements from one thread, then the end of the run."""

    name: str
    """For messages."""

    def write(self, measurements: Sequence[Measurement]) -> None:
        """Keep measurements. It is called every few seconds, also without new ones."""

    def close(self, outcome: Outcome, figures: Mapping[str, float]) -> None:
        """Keep the figures of the run and end."""


@runtime_checkable
class ShowsPictures(Protocol):
    """A tracker that takes pictures too."""

    def show(self, pictures: Sequence[Picture]) -> None:
        """Keep pictures."""


def picture_path(picture: Picture) -> str:
    """Return the path of a picture below the run's folder; by name, the pictures of a step are in their order."""
    return f"{PICTURES_FOLDER}/{picture.step.replace(' ', '_')}-{picture.done:012d}.png"


def tag(step: str, name: str) -> str:
    """Return the name of a series: `stage_1_classifier/loss`."""
    return f"{step.replace(' ', '_')}/{name}"
