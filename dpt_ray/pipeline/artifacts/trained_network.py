"""A trained network's history, and what people read of its training."""

from collections.abc import Mapping
from typing import Any

from dpt_ray.data.storage import stores
from dpt_ray.distributed.ray_training import HISTORY_FILE
from dpt_ray.pipeline.artifacts.dataset import summarise_skipped
from dpt_ray.pipeline.artifacts.store import Artifact

CLASSIFIER_TITLES = {"stage1": "stage 1 classifier", "stage3": "stage 3 classifier"}


def read_history(artifact: Artifact) -> list[dict[str, float]]:
    """Return the loss curve of a trained network: rows with `images` and averaged metrics."""
    rows: list[dict[str, float]] = stores.read_json(artifact.file(HISTORY_FILE))
    return rows


def describe_training(images: int, *names: str) -> str:
    """Say what a training will do."""
    return f"training on {images:,} images ({', '.join(names)})"


def summarise_training(facts: Mapping[str, Any]) -> str:
    """Say what a training did."""
    return f"{facts['images_seen']:,} images, last loss {facts['loss']:.4g}" + summarise_skipped(facts)
