"""The worker of `MeasureFeatures`, which reduces the features of ranges of shards to statistics."""

import json
import math
from typing import Any, NamedTuple

import numpy as np
import torch

from dpt_ray.core.fitting_batch import ENCODED_ON_CPU, image_batch_size
from dpt_ray.core.metrics.set_statistics import SetStatistics, encode_statistics
from dpt_ray.core.weights import read_metadata
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.decoded_batches import decoded_batches
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import plain_json
from dpt_ray.distributed.units import ShardUnit, UnitFacts, UnitWorker, UnusableUnitError, read_unit_samples
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


class StatisticsPart(NamedTuple):
    """A range of shards, which is a unit: the position of its first shard in the index, and its shards.

    Each shard is given with its sidecar of features, if they are not computed by a network.
    """

    first: int
    shards: tuple[ShardUnit, ...]


class StatisticsWorker(UnitWorker):
    """Computes the statistics of a range of shards.

    Args:
        network: computes the features; None if sidecars have them.
        form: form of the images that the network reads; None without a network.
        sample: largest number of images in the sample of the whole set.
        images: number of images of the whole set.
        folder: URL of the folder for files.
        batch: number of images that the network reads together; None to find it, see `batch_size`.
        device: the torch device that computes.
        strict: whether a range with a shard that cannot be read has no file. Otherwise its file leaves the shard out.
    """

    def __init__(
        self,
        network: MetricNetwork | None,
        form: ImageForm | None,
        sample: int,
        images: int,
        folder: str,
        batch: int | None,
        device: str,
        strict: bool,
    ):
        self._network, self._form = network, form
        self._sample, self._images, self._folder, self._given = sample, images, folder, batch
        self._device, self._strict = device, strict
        self._compute: Any = None
        self._batch = ENCODED_ON_CPU

    def output_url(self, unit: StatisticsPart) -> str:
        return stores.join(self._folder, f"{unit.first:05d}.safetensors")

    def make(self, unit: StatisticsPart) -> bytes:
        statistics: SetStatistics | None = None
        skipped: list[Skipped] = []
        for shard in unit.shards:
            try:
                keys, found = self._features(shard)
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

    def facts(self, unit: StatisticsPart, content: bytes) -> JsonObject:
        facts: JsonObject = json.loads(read_metadata(content)[_FACTS])
        return facts

    def _sampled(self, unit: StatisticsPart) -> int:
        """Return how many images of a part the sample of all images may hold: ten deviations above the mean."""
        share = min(1.0, self._sample / max(1, self._images))
        expected = share * sum(part.shard.samples for part in unit.shards)
        return min(self._sample, math.ceil(expected + 10 * math.sqrt(expected)))

    def _features(self, unit: ShardUnit) -> tuple[list[str], MetricFeatures]:
        shard = unit.shard
        if self._network is None:
            if unit.input_sidecar is None:
                raise UnusableUnitError([Skipped(shard.url, None, "has no predictions", shard.samples)])
            sidecar = read_sidecar(unit.input_sidecar, [FEATURES])
            return sidecar[KEY], MetricFeatures(torch.from_numpy(np.array(sidecar[FEATURES])))
        assert self._form is not None
        if self._compute is None:
            self._compute = open_network(self._network, self._device)
            self._batch = image_batch_size(self._given, ENCODED_ON_CPU, self._compute, self._form.shape, self._device)
        samples = read_unit_samples(shard)
        batches = decoded_batches(samples, self._form, shard, self._batch, self._device)
        found = [self._compute(torch.from_numpy(images)) for _, images in batches]
        return [sample.key for sample in samples], joined_features(found)
