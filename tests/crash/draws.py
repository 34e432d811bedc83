"""What is killed, and when: a seeded draw over the parts of a job and the files that show its progress."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from places import Place

from dpt_ray.pipeline.dpt import DualPseudoTraining

TRAINING = ("driver", "training worker", "controller", "progress actor", "another actor", "raylet", "control store")
IN_WORKERS = 0.7
"""Share of the draws in a training in which Ray Train trains in a worker."""
IN_THE_DRIVER = ("driver", "progress actor", "raylet", "control store")
"""What there is of a training in the job's own process."""
INFERENCE = ("driver", "inference process", "raylet", "control store", "agent")
WHOLE = 0.15
"""Share of the draws whose job makes all steps. The others begin with the results of the steps before."""


@dataclass(frozen=True)
class Moment:
    """A step of a run, and the files by which its progress is seen.

    Attributes:
        step: attribute of `DualPseudoTraining`.
        job: the script that makes the step and those before it.
        pattern: of the files in the artifact's folder.
        most: largest number of them that a draw waits for.
        parts: which may be killed there.
    """

    step: str
    job: str
    pattern: str
    most: int
    parts: tuple[str, ...]


MOMENTS = (
    Moment("classifier", "train_classifier", "checkpoints/images_*", 4, TRAINING),
    Moment("pseudo_labels", "pseudo_label", "predictions/*", 4, INFERENCE),
    Moment("generator", "train_generator", "checkpoints/images_*", 2, TRAINING),
    Moment("pseudo_images", "sample", "shards/*.tar", 5, INFERENCE),
    Moment("retrained", "retrain", "checkpoints/images_*", 2, TRAINING),
)
WHOLE_JOB = "dpt_full"


@dataclass(frozen=True)
class Draw:
    """What is killed, and when.

    Attributes:
        seed: of the draw.
        moment: the step in which it is killed.
        files: number of different files of the step that must have been seen; 0 for its folder alone.
        delay: time from then on, as a share of the time between two checkpoints, in [0, 1).
        part: what is killed.
        position: which of several processes of that part, in [0, 1).
        workers: training workers of Ray Train; 0 trains in the job's own process.
        whole: whether the job makes all steps.
    """

    seed: int
    moment: Moment
    files: int
    delay: float
    part: str
    position: float
    workers: int = 0
    whole: bool = False

    @property
    def job(self) -> str:
        """The script of the job."""
        return WHOLE_JOB if self.whole else self.moment.job

    @property
    def in_training(self) -> bool:
        """Whether the step is a training, which makes checkpoints."""
        return self.moment.parts is TRAINING

    @property
    def title(self) -> str:
        """The draw in words."""
        place = f"{self.moment.step} ({self.workers} workers)" if self.in_training else self.moment.step
        return f"{self.part} in {place} after {self.files} files{' of a whole run' if self.whole else ''}"


def sooner(drawn: Draw) -> Draw:
    """Return a draw whose moment comes earlier in its step."""
    return replace(drawn, files=drawn.files // 2, delay=0.0)


def draw(seed: int) -> Draw:
    """Return the draw of a seed."""
    chosen = random.Random(seed)
    moment = chosen.choice(MOMENTS)
    files, position, delay = chosen.randint(0, moment.most), chosen.random(), chosen.random()
    workers = int(moment.parts is TRAINING and chosen.random() < IN_WORKERS)
    parts = IN_THE_DRIVER if moment.parts is TRAINING and not workers else moment.parts
    return Draw(seed, moment, files, delay, chosen.choice(parts), position, workers, chosen.random() < WHOLE)


def folder_of(drawn: Draw, run: DualPseudoTraining) -> str:
    """Return the folder of the step in which something is killed, below the root."""
    return getattr(run, drawn.moment.step).address


def progress_of(drawn: Draw, run: DualPseudoTraining, place: Place) -> Callable[[], bool | None]:
    """Return a function that says whether the files of a draw are there; None once its step is finished.

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
