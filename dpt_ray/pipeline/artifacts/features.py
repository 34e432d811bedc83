"""Features of a frozen encoder, one sidecar a shard."""

import numpy as np

from dpt_ray.data.shards.sidecars import read_sidecar, sidecar_name
from dpt_ray.pipeline.artifacts.store import Artifact

FEATURES = "features"
SIDECAR_FOLDER = "features"


def features_url(artifact: Artifact, number: int) -> str | None:
    """Return the sidecar of a set's shard; None for a shard that could not be read, which the facts list."""
    made = "sha256" in artifact.facts["files"][number]
    return artifact.file(SIDECAR_FOLDER, sidecar_name(number)) if made else None


def read_features(url: str) -> np.ndarray:
    """Return a sidecar's features, float32 (N, D)."""
    features: np.ndarray = read_sidecar(url, [FEATURES])[FEATURES]
    return features
