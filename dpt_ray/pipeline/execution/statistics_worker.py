"""The worker of `MeasureFeatures`, which reduces the features of ranges of shards to statistics."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dpt_ray.core.metrics.set_statistics import SetStatistics, encode_statistics
from dpt_ray.core.weights import read_metadata
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.source import decode_samples
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import plain_json
from dpt_ray.distributed.inference import UnitFacts, UnitWorker, UnusableUnitError, read_unit_samples
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.metric_networks import (
    MetricFeatures,
    MetricNetwork,
    check_features,
    joined_features,
    open_network,
)
from dpt_ray.pipeline.artifacts.features import FEATURES

_FACTS = "facts"


class StatisticsWorker(UnitWorker):
    """Computes the statistics of a range of shards, which is a unit: its first shard, and the one after its last.

    Args:
        index: the images.
        network: computes the features; None if `encoded` has them.
        form: form of the images that the network reads; None without a network.
        encoded: URL of each shard's sidecar with features, None for a shard without one.
        sample: largest number of images in the sample of the whole set.
        folder: URL of the folder for files.
        batch: number of images that the network reads together.
        device: the torch device that computes.
        strict: whether a range with a shard that cannot be read has no file. Otherwise its file leaves the shard out.
    """

    def __init__(
        self,
        index: DatasetIndex,
        network: MetricNetwork | None,
        form: ImageForm | None,
        encoded: Sequence[str | None] | None,
        sample: int,
        folder: str,
        batch: int,
        device: str,
        strict: bool,
    ):
        self._index, self._network, self._form, self._encoded = index, network, form, encoded
        self._sample, self._folder, self._batch = sample, folder, batch
        self._device, self._strict = device, strict
        self._compute: Any = None

    def output_url(self, unit: tuple[int, int]) -> str:
        return stores.join(self._folder, f"{unit[0]:05d}.safetensors")

    def make(self, unit: tuple[int, int]) -> bytes:
        statistics: SetStatistics | None = None
        skipped: list[Skipped] = []
        for number in range(*unit):
            try:
                keys, found = self._features(number)
            except UnusableUnitError as error:
                if self._strict:
                    raise
                skipped += error.skipped
                continue
            check_features(found.features, self._network.name if self._network else "stage 1")
            if statistics is None:
                statistics = SetStatistics(found.features.shape[1], self._sampled(unit), self._device)
            statistics.update(keys, *found)
        if statistics is None:
            raise UnusableUnitError(skipped)
        facts = UnitFacts(statistics.images, tuple(skipped) or None)
        return encode_statistics(statistics, {_FACTS: json.dumps(plain_json(facts))})

    def facts(self, unit: tuple[int, int], content: bytes) -> JsonObject:
        facts: JsonObject = json.loads(read_metadata(content)[_FACTS])
        return facts

    def _sampled(self, unit: tuple[int, int]) -> int:
        """Return how many images of a part the sample of all images may hold: ten deviations above the mean."""
        share = min(1.0, self._sample / max(1, self._index.num_images))
        expected = share * sum(shard.samples for shard in self._index.shards[slice(*unit)])
        return min(self._sample, math.ceil(expected + 10 * math.sqrt(expected)))

    def _features(self, number: int) -> tuple[list[str], MetricFeatures]:
        shard = self._index.shards[number]
        if self._encoded is not None:
            url = self._encoded[number]
            if url is None:
                raise UnusableUnitError([Skipped(shard.url, None, "has no predictions", shard.samples)])
            sidecar = read_sidecar(url, [FEATURES])
            return sidecar[KEY], MetricFeatures(torch.from_numpy(np.array(sidecar[FEATURES])))
        assert self._network is not None
        assert self._form is not None
        self._compute = self._compute or open_network(self._network, self._device)
        samples = read_unit_samples(shard)
        found = []
        for start in range(0, len(samples), self._batch):
            images = torch.from_numpy(decode_samples(samples[start : start + self._batch], self._form, shard))
            found.append(self._compute(images))
        return [sample.key for sample in samples], joined_features(found)
