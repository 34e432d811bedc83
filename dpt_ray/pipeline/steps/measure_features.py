"""Statistics of a set of images in the features of a network, by batch inference; made once for any number of runs."""

from collections.abc import Sequence

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.evaluation_section import EvaluationConfig
from dpt_ray.core.metrics.set_statistics import SetStatistics, decode_statistics, encode_statistics
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import ShardUnit, UnitFacts, shard_units
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.metric_networks import MetricNetwork
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.feature_statistics import STATISTICS_FILE, StatisticsFacts
from dpt_ray.pipeline.artifacts.predictions import sidecar_urls
from dpt_ray.pipeline.artifacts.step_facts import summarise_skipped
from dpt_ray.pipeline.execution.statistics_worker import StatisticsPart, StatisticsWorker
from dpt_ray.pipeline.execution.step import Step, StepContext

_PARTS = "parts"
_PART_IMAGES = 5000
"""Least number of images of a part, which is a unit of work. Its file holds covariances, 66 MB for Inception-v3."""


class MeasureFeatures(Step[StatisticsFacts]):
    """Reduce the features of all images to statistics (`SetStatistics`).

    Args:
        title: name of the step in messages.
        config: the section `evaluation`: the size of the sample.
        data: the section `data`: size and channels of the images.
        images: any step whose artifact is an indexed shard set.
        network: computes the features from images; None if `predictions` have them.
        predictions: stage 1's predictions for the images, with features.
    """

    name = "statistics"
    facts_type = StatisticsFacts

    def __init__(
        self,
        title: str,
        config: EvaluationConfig,
        data: DataConfig,
        images: Step,
        network: MetricNetwork | None,
        predictions: Step | None = None,
    ):
        self._config, self._data, self._network = config, data, network
        parents = {"images": images}
        if network is None:
            assert predictions is not None
            parents["predictions"] = predictions
        super().__init__(title, parents)

    @property
    def settings(self) -> JsonObject:
        if self._network is None:
            return {"sample": self._config.sample}
        form = {"image_size": self._data.image_size, "channels": self._data.channels}
        return {"sample": self._config.sample, "network": self._network.identity, **form}

    def plan(self) -> str:
        name = self._network.name if self._network else "features of stage 1"
        return f"computing statistics of every image ({name})"

    def make(self, context: StepContext) -> StatisticsFacts:
        index = read_index(context.parents["images"].url)
        resources = inference_resources(context.cluster)
        network = self._network
        predictions = context.parents.get("predictions")
        files = run_units(
            StatisticsWorker,
            {
                "network": network,
                "form": image_form(self._data) if network else None,
                "sample": self._config.sample,
                "images": index.num_images,
                "folder": context.file(_PARTS),
                "batch": context.cluster.encoding_batch,
                "device": resources.device,
                "strict": context.policy.allowed_share == 0,
            },
            _parts(shard_units(index, sidecar_urls(predictions) if predictions else None)),
            resources=resources,
            progress=context.progress(index.num_images),
            policy=context.policy,
            folder=context.folder,
        )
        whole = self._merged([str(file["url"]) for file in files if "url" in file])
        if whole is None:
            raise UserError("no image could be read", where=context.parents["images"].url)
        stores.write_bytes(context.file(STATISTICS_FILE), encode_statistics(whole))
        stores.remove_tree(context.file(_PARTS))
        return StatisticsFacts(
            images_in=index.num_images,
            skipped=tuple(entry for file in files for entry in UnitFacts.from_json(file).skipped or ()),
            images=whole.images,
            feature_size=len(whole.moments.mean),
            sampled=len(whole.sample.priorities),
        )

    def _merged(self, parts: Sequence[str]) -> SetStatistics | None:
        """Return the statistics in files together; one file at a time is in memory."""
        whole: SetStatistics | None = None
        for url in parts:
            part = decode_statistics(stores.read_bytes(url), self._config.sample)
            if whole is None:
                whole = part
            else:
                whole.merge(part)
        return whole

    def summary(self, facts: StatisticsFacts) -> str:
        return f"{facts.images:,} images, {facts.feature_size:,} features each" + summarise_skipped(facts)


def _parts(shards: Sequence[ShardUnit]) -> list[StatisticsPart]:
    """Return ranges of shards, each with at least `_PART_IMAGES` images but the last."""
    parts, start, images = [], 0, 0
    for number, unit in enumerate(shards, start=1):
        images += unit.shard.samples
        if images >= _PART_IMAGES or number == len(shards):
            parts.append(StatisticsPart(start, tuple(shards[start:number])))
            start, images = number, 0
    return parts
