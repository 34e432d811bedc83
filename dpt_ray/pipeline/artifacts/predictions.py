"""Predicted classes of every image, one sidecar a shard."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from dpt_ray.data.shards.sidecars import read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import count_images, read_skipped, skip_facts
from dpt_ray.pipeline.artifacts.store import Artifact

PROBABILITIES, AVERAGED = "probabilities", "averaged_probabilities"
TOP_CLASSES, TOP_PROBABILITIES = "top_classes", "top_probabilities"

SIDECARS = "predictions"


def summarise_predictions(files: list[dict[str, Any]], images_in: int, num_classes: int) -> dict[str, Any]:
    """Return the facts of predictions from those of their files."""
    skipped = [entry for file in files for entry in read_skipped(file)]
    images = images_in - count_images(skipped)
    counts = np.sum([file.pop("predicted", [0] * num_classes) for file in files], axis=0).tolist()
    confidence = sum(file.pop("confidence_sum", 0.0) for file in files) / max(1, images)
    return {
        **skip_facts(images_in, skipped),
        "images": images,
        "predicted_per_class": counts,
        "mean_confidence": confidence,
        "files": files,
    }


def sidecar_urls(artifact: Artifact) -> list[str | None]:
    """Return the URL of each shard's sidecar; None for a shard that was left out."""
    return [
        artifact.file(SIDECARS, sidecar_name(number)) if "sha256" in file else None
        for number, file in enumerate(artifact.facts["files"])
    ]


def read_predictions(artifact: Artifact, *columns: str) -> Iterator[dict[str, Any] | None]:
    """Yield the sidecars of a `Predictions` artifact in the order of its shards; None for one that could not be read.

    Such a shard is listed in the artifact's facts.
    """
    for url in sidecar_urls(artifact):
        yield None if url is None else read_sidecar(url, list(columns))
