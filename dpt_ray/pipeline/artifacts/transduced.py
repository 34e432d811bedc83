"""Class probabilities that label propagation gives to the training images, one sidecar for each shard."""

from collections.abc import Sequence

import numpy as np

from dpt_ray.data.shards.sidecars import KEY, encode_sidecar, read_sidecar, sidecar_name
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.predictions import PROBABILITIES
from dpt_ray.pipeline.artifacts.store import Artifact

_FOLDER = "transduced"


def transduced_folder(classifier: Artifact) -> str:
    """Return the URL of the folder of sidecars in a classifier's artifact; their names are those of the shards."""
    return classifier.file(_FOLDER)


def write_transduced(folder: str, encoded: Sequence[str | None], probabilities: np.ndarray) -> None:
    """Write the sidecars into the artifact's folder.

    Args:
        folder: URL of the folder.
        encoded: URL of each shard's features; None for a shard without.
        probabilities: float32 (N, C), in the order of the shards; further rows are not written.
    """
    start = 0
    for number, url in enumerate(encoded):
        if url is None:
            continue
        keys = read_sidecar(url, [])[KEY]
        columns = {PROBABILITIES: probabilities[start : start + len(keys)]}
        stores.write_bytes(stores.join(folder, _FOLDER, sidecar_name(number)), encode_sidecar(keys, columns))
        start += len(keys)
