"""The pseudo images in which stage 1 sees the class that was requested from the generator."""

from collections.abc import Iterator

import numpy as np

from dpt_ray.data.loading.source import CONFIDENCE, LABEL
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.sidecar_urls import SidecarUrls
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.pipeline.artifacts.predictions import prediction_sidecars
from dpt_ray.pipeline.artifacts.pseudo_images import conditioning_labels
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext


def agreeing_images(
    context: StepContext, index: DatasetIndex, predictions: Artifact, least_confidence: float | None = None
) -> Iterator[np.ndarray]:
    """Yield which pseudo images of each shard agree, bool (samples of the shard,); none of an unread shard do.

    Args:
        context: that of the step.
        index: the pseudo images.
        predictions: stage 1's predictions for them.
        least_confidence: confidence below which an image does not agree; None to read no confidence.
    """
    counts = [shard.samples for shard in index.shards]
    sidecars = prediction_sidecars(predictions)
    settings = {"predictions": sidecars, "num_classes": index.num_classes, "least": least_confidence}
    bits = b"".join(run_groups(_AgreeingWorker, settings, shard_groups(counts), context, "agreeing"))
    start = 0
    for count in counts:
        stop = start + -(-count // 8)
        yield np.unpackbits(np.frombuffer(bits[start:stop], np.uint8), count=count).astype(bool)
        start = stop


class _AgreeingWorker(GroupWorker):
    """Its partial result is a bit an image, each shard's from a new byte on."""

    def __init__(self, predictions: SidecarUrls, num_classes: int, least: float | None, folder: str):
        super().__init__(folder)
        self._predictions, self._num_classes, self._least = predictions, num_classes, least

    def make(self, unit: Group) -> bytes:
        return b"".join(np.packbits(self._of_shard(unit, position)).tobytes() for position in unit.positions)

    def _of_shard(self, unit: Group, position: int) -> np.ndarray:
        url, numbers = self._predictions[position], unit.images_of(position)
        if url is None:
            return np.zeros(len(numbers), bool)
        seen = read_sidecar(url, [LABEL] if self._least is None else [LABEL, CONFIDENCE])
        agrees: np.ndarray = seen[LABEL] == conditioning_labels(numbers, self._num_classes)
        return agrees if self._least is None else agrees & (seen[CONFIDENCE] >= self._least)
