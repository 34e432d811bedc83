"""What is killed, and when: a seeded draw over the parts of a job and the files that show its progress."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from places import Place

from dpt_ray.pipeline.dpt import DualPseudoTraining

TRAINING = ("driver", "training worker", "controller", "progress actor", "another actor", "raylet", "control store")
IN_WORKERS = 0.7
"""Share of the draws in a training in which Ray Train trains in a worker."""
IN_THE_DRIVER = ("driver", "progress actor", "raylet", "control store")
"""What there is of a training in the job's own process."""
INFERENCE = ("driver", "inference process", "raylet", "control store", "agent")


@dataclass(frozen=True)
class Moment:
    """A step of a run, and the files by which its progress is seen.

    Attributes:
        step: attribute of `DualPseudoTraining`.
        pattern: of the files in the artifact's folder.
        most: largest number of them that a draw waits for.
        parts: which may be killed there.
    """

    step: str
    pattern: str
    most: int
    parts: tuple[str, ...]


MOMENTS = (
    Moment("classifier", "checkpoints/images_*", 3, TRAINING),
    Moment("pseudo_labels", "predictions/*", 4, INFERENCE),
    Moment("generator", "checkpoints/images_*", 2, TRAINING),
    Moment("pseudo_images", "shards/*.tar", 5, INFERENCE),
    Moment("retrained", "checkpoints/images_*", 2, TRAINING),
)


@dataclass(frozen=True)
class Draw:
    """What is killed, and when.

    Attributes:
        seed: of the draw.
        moment: the step in which it is killed.
        files: number of different files of the step that must have been seen; 0 for its folder alone.
        part: what is killed.
        position: which of several processes of that part, in [0, 1).
        workers: training workers of Ray Train; 0 trains in the job's own process.
    """

    seed: int
    moment: Moment
    files: int
    part: str
    position: float
    workers: int = 0

    @property
    def title(self) -> str:
        """The draw in words."""
        place = f"{self.moment.step} ({self.workers} workers)" if self.moment.parts is TRAINING else self.moment.step
        return f"{self.part} in {place} after {self.files} files"


def draw(seed: int) -> Draw:
    """Return the draw of a seed."""
    chosen = random.Random(seed)
    moment = chosen.choice(MOMENTS)
    files, position = chosen.randint(0, moment.most), chosen.random()
    workers = int(moment.parts is TRAINING and chosen.random() < IN_WORKERS)
    parts = IN_THE_DRIVER if moment.parts is TRAINING and not workers else moment.parts
    return Draw(seed, moment, files, chosen.choice(parts), position, workers)


def folder_of(drawn: Draw, run: DualPseudoTraining) -> str:
    """Return the folder of the step in which something is killed, below the root."""
    step = getattr(run, drawn.moment.step)
    return f"{step.name}/{step.fingerprint}"


def progress_of(drawn: Draw, run: DualPseudoTraining, place: Place) -> Callable[[], bool | None]:
    """Return a function that says whether the moment of a draw has come; None once its step is finished.

    A checkpoint is removed after some later ones, so different files are counted, not those that are there.
    """
    folder = folder_of(drawn, run)
    seen: set[str] = set()

    def has_come() -> bool | None:
        there = place.files(folder)
        if "manifest.json" in there:
            return None
        seen.update(place.entries(folder, drawn.moment.pattern))
        return bool(there) and len(seen) >= drawn.files

    return has_come
