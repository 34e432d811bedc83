"""Features of a frozen encoder, one sidecar for each shard."""

from dataclasses import dataclass

import numpy as np

from dpt_ray.data.shards.sidecars import read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage.json_records import optional
from dpt_ray.pipeline.artifacts.step_facts import Facts, ShardFile
from dpt_ray.pipeline.artifacts.store import Artifact

FEATURES = "features"
SIDECAR_FOLDER = "features"
ENCODER = "encoder"
"""Role of a parent: the encoder of stage 0."""


@dataclass(frozen=True, kw_only=True)
class EncodedShard(ShardFile):
    """The features of one shard.

    Attributes:
        feature_size: length of a feature vector; None for a shard that could not be read.
    """

    feature_size: int | None = optional()


@dataclass(frozen=True, kw_only=True)
class FeaturesFacts(Facts):
    """The facts of `EncodeImages`.

    Attributes:
        images_in: images of the set.
        skipped: those that could not be read.
        images: encoded images.
        files: the sidecars, in the order of the shards.
    """

    images_in: int = 0
    skipped: tuple[Skipped, ...] = ()
    images: int
    files: tuple[EncodedShard, ...]


def features_urls(artifact: Artifact) -> list[str | None]:
    """Return the URL of each shard's sidecar; None for a shard that could not be read, which the facts list."""
    return [
        artifact.file(SIDECAR_FOLDER, sidecar_name(number)) if file.is_made else None
        for number, file in enumerate(FeaturesFacts.read(artifact).files)
    ]


def read_features(url: str) -> np.ndarray:
    """Return a sidecar's features, float32 (N, D)."""
    features: np.ndarray = read_sidecar(url, [FEATURES])[FEATURES]
    return features
