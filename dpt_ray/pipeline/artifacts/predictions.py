"""Predicted classes of every image, one sidecar a shard."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dpt_ray.data.shards.label_counts import decode_counts
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, sidecars_where
from dpt_ray.data.shards.sidecars import SidecarColumns, read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import Skipped, count_images
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
        predicted: images that each class was predicted for; see `label_counts.py`.
        confidence_sum: sum of the confidence.
    """

    predicted: str = ""
    confidence_sum: float = 0.0


def summarise_predictions(shards: Iterable[PredictedShard], images_in: int, num_classes: int) -> PredictionsFacts:
    """Return the facts of predictions.

    Args:
        shards: what the workers report, in the order of the shards; it is gone through once, a shard at a time.
        images_in: images of the set.
        num_classes: number of classes.
    """
    counts, confidence = np.zeros(num_classes, np.int64), 0.0
    files: list[ShardFile] = []
    for shard in shards:
        classes, predicted = decode_counts(shard.predicted)
        counts[classes] += predicted
        confidence += shard.confidence_sum
        files.append(shard.file)
    skipped = tuple(entry for file in files for entry in file.skipped or ())
    images = images_in - count_images(skipped)
    return PredictionsFacts(
        images_in=images_in,
        skipped=skipped,
        images=images,
        predicted_per_class=tuple(counts.tolist()),
        mean_confidence=confidence / max(1, images),
        files=tuple(files),
    )


def sidecar_urls(artifact: Artifact) -> list[str | None]:
    """Return the URL of each shard's sidecar; None for a shard that was left out."""
    return [
        artifact.file(SIDECARS, sidecar_name(number)) if file.is_made else None
        for number, file in enumerate(PredictionsFacts.read(artifact).files)
    ]


def prediction_sidecars(artifact: Artifact) -> SidecarUrls:
    """Return the sidecars of a `Predictions` artifact, without a text for each."""
    return sidecars_where(artifact.file(SIDECARS), [file.is_made for file in PredictionsFacts.read(artifact).files])


def shard_counts(facts: PredictionsFacts) -> np.ndarray:
    """Return the number of images of each shard, int64 (shards,), with those that could not be read."""
    return np.array([file.images if file.is_made else file.num_skipped for file in facts.files], np.int64)


def read_predictions(
    artifact: Artifact, *columns: str, most_shards: int | None = None
) -> Iterator[SidecarColumns | None]:
    """Yield the sidecars of a `Predictions` artifact in the order of its shards; None for one that could not be read.

    Such a shard is listed in the artifact's facts. With `most_shards` the first shards alone are read.
    """
    for url in sidecar_urls(artifact)[:most_shards]:
        yield None if url is None else read_sidecar(url, list(columns))
