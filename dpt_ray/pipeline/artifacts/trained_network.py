"""A trained network's history, and what people read of its training."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from dpt_ray.data.storage.documents import read_document
from dpt_ray.distributed.ray_training import HISTORY_FILE
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.dataset import summarise_skipped
from dpt_ray.pipeline.artifacts.store import REMOVE, Artifact

CLASSIFIER_TITLES = {"stage1": "stage 1 classifier", "stage3": "stage 3 classifier"}


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


def summarise_training(facts: Mapping[str, Any]) -> str:
    """Say what a training did."""
    return f"{facts['images_seen']:,} images, last loss {facts['loss']:.4g}" + summarise_skipped(facts)
