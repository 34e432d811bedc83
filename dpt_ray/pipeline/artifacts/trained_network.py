"""The facts and the loss curve of a trained network."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage.documents import read_document
from dpt_ray.data.storage.json_records import optional
from dpt_ray.distributed.training_job import HISTORY_FILE
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.step_facts import Facts, summarise_skipped
from dpt_ray.pipeline.artifacts.store import REMOVE, Artifact

CLASSIFIER_TITLES = {"stage1": "stage 1 classifier", "stage3": "stage 3 classifier"}


@dataclass(frozen=True, kw_only=True)
class TrainingFacts(Facts):
    """The facts of a trained network.

    Attributes:
        images_seen: images trained on, each as often as it was seen.
        loss: mean loss of the last row of the history.
        images_in: images of all sources.
        skipped: those that could not be read.
    """

    images_seen: int
    loss: float
    images_in: int = 0
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MixedFacts:
    """The pseudo images of a stage 3 training; both are None in stage 1.

    Attributes:
        pseudo_images: pseudo images in the artifact.
        pseudo_images_used_per_class: pseudo images of each class that training uses.
    """

    pseudo_images: int | None = optional()
    pseudo_images_used_per_class: tuple[int, ...] | None = optional()


@dataclass(frozen=True, kw_only=True)
class ClassifierFacts(MixedFacts, TrainingFacts):
    """The facts of a `TrainClassifier`."""


@dataclass(frozen=True, kw_only=True)
class ProbeFacts(Facts):
    """The facts of a `FitProbe`.

    Attributes:
        rows: images that it is fitted to, unlabelled ones included where the head uses them.
        evaluations: passes over them; iterations of a mixture.
        loss: value of the objective at the end; of a mixture the negative log-likelihood of an image.
        gradient: largest component of its gradient at the end; of a mixture its last relative change.
        converged: whether `gradient` reached the tolerance.
        temperature: divides the logits.
        labelled: images whose labels the head gets; None where they are all `rows`.
        unreached: propagation: images that no label reaches, for which all classes are equally probable.
    """

    rows: int
    evaluations: int
    loss: float
    gradient: float
    converged: bool
    temperature: float
    labelled: int | None = optional()
    unreached: int | None = optional()


def read_history(artifact: Artifact) -> list[dict[str, float]]:
    """Return the loss curve of a trained network: rows with `images` and averaged metrics.

    Raises:
        UserError: it is absent, or not in the form that this package writes.
    """
    return read_history_file(artifact.file(HISTORY_FILE))


_Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]


def read_history_file(url: str) -> list[dict[str, float]]:
    """Return the rows of a file with a loss curve; see `read_history`."""
    rows: list[dict[str, float]] = read_document(url, list[dict[str, _Whole | float]], "a training's history", REMOVE)
    if not rows or not all("images" in row for row in rows) or "loss" not in rows[-1]:
        raise UserError("is not a training's history (it lacks images or the last loss)", where=url, fix=REMOVE)
    return rows


def describe_training(images: int, *names: str) -> str:
    """Say what a training will do."""
    return f"training on {images:,} images ({', '.join(names)})"


def summarise_training(facts: TrainingFacts) -> str:
    """Say what a training did."""
    return f"{facts.images_seen:,} images, last loss {facts.loss:.4g}" + summarise_skipped(facts)
