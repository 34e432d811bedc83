"""Predicted classes of every image, one sidecar a shard."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpt_ray.data.shards.sidecars import read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import Skipped, count_images
from dpt_ray.data.storage.json_records import optional
from dpt_ray.pipeline.artifacts.step_facts import Facts, ShardFile
from dpt_ray.pipeline.artifacts.store import Artifact

PROBABILITIES, AVERAGED = "probabilities", "averaged_probabilities"
TOP = 5
"""Most probable classes that count as right in the top-5 accuracy of held-out images."""

SIDECARS = "predictions"


@dataclass(frozen=True, kw_only=True)
class PredictionsFacts(Facts):
    """The facts of `Predictions`.

    Attributes:
        images_in: images of the set.
        skipped: those that could not be read.
        images: predicted images.
        predicted_per_class: images that each class was predicted for.
        mean_confidence: mean over the predicted images.
        files: the sidecars, in the order of the shards.
    """

    images_in: int = 0
    skipped: tuple[Skipped, ...] = ()
    images: int
    predicted_per_class: tuple[int, ...]
    mean_confidence: float
    files: tuple[ShardFile, ...]


@dataclass(frozen=True, kw_only=True)
class PredictedShard(ShardFile):
    """What a worker reports of one shard.

    Attributes:
        predicted: images that each class was predicted for.
        confidence_sum: sum of the confidence.
    """

    predicted: tuple[int, ...] | None = optional()
    confidence_sum: float = 0.0


def summarise_predictions(shards: Sequence[PredictedShard], images_in: int, num_classes: int) -> PredictionsFacts:
    """Return the facts of predictions.

    Args:
        shards: what the workers report, in the order of the shards.
        images_in: images of the set.
        num_classes: number of classes.
    """
    skipped = tuple(entry for shard in shards for entry in shard.skipped or ())
    images = images_in - count_images(skipped)
    counts = np.sum([shard.predicted or [0] * num_classes for shard in shards], axis=0).tolist()
    return PredictionsFacts(
        images_in=images_in,
        skipped=skipped,
        images=images,
        predicted_per_class=tuple(counts),
        mean_confidence=sum(shard.confidence_sum for shard in shards) / max(1, images),
        files=tuple(shard.file for shard in shards),
    )


def sidecar_urls(artifact: Artifact) -> list[str | None]:
    """Return the URL of each shard's sidecar; None for a shard that was left out."""
    return [
        artifact.file(SIDECARS, sidecar_name(number)) if file.is_made else None
        for number, file in enumerate(PredictionsFacts.read(artifact).files)
    ]


def read_predictions(artifact: Artifact, *columns: str) -> Iterator[dict[str, Any] | None]:
    """Yield the sidecars of a `Predictions` artifact in the order of its shards; None for one that could not be read.

    Such a shard is listed in the artifact's facts.
    """
    for url in sidecar_urls(artifact):
        yield None if url is None else read_sidecar(url, list(columns))
