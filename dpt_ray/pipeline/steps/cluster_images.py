"""Clusters of all images, on which a generator is conditioned before it sees labels."""

import numpy as np

from dpt_ray.config.generator_section import PretrainingConfig
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import KEY, encode_sidecar, read_sidecar, sidecar_facts, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import ShardUnit, UnitWorker, UnusableUnitError, shard_units
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.features import FEATURES, features_urls
from dpt_ray.pipeline.artifacts.image_clusters import ImageClustersFacts
from dpt_ray.pipeline.artifacts.predictions import SIDECARS
from dpt_ray.pipeline.artifacts.step_facts import ShardFile
from dpt_ray.pipeline.execution.cluster_groups import CLUSTERS_FILE, cluster_images, read_clusters, write_clusters
from dpt_ray.pipeline.execution.step import Step, StepContext


class ClusterImages(Step[ImageClustersFacts]):
    """Divide all images into clusters of their features. Each shard gets a sidecar with the cluster as `label`.

    Args:
        config: the section `stage2.pretraining`: the number of clusters.
        images: indexes the images.
        features: makes their features, which no label may reach.
    """

    name = "image_clusters"
    facts_type = ImageClustersFacts

    def __init__(self, config: PretrainingConfig, images: Step, features: Step):
        self._config = config
        super().__init__("clusters of images", {"images": images, "features": features})

    @property
    def settings(self) -> JsonObject:
        return {"clusters": self._config.clusters}

    def plan(self) -> str:
        return f"dividing all images into {self._config.clusters:,} clusters"

    def make(self, context: StepContext) -> ImageClustersFacts:
        index, clusters = read_index(context.parents["images"].url), context.file(CLUSTERS_FILE)
        found = cluster_images(context, context.parents["features"], self._config.clusters)
        write_clusters(clusters, found)
        files = run_units(
            _ClusteringWorker,
            {"folder": context.file(SIDECARS), "clusters": clusters},
            shard_units(index, features_urls(context.parents["features"])),
            resources=inference_resources(context.cluster),
            progress=context.progress(index.num_images),
            policy=context.policy,
            folder=context.folder,
        )
        shards = tuple(ShardFile.from_json(file) for file in files)
        return ImageClustersFacts(
            images=sum(shard.images for shard in shards if shard.is_made), clusters=self._config.clusters, files=shards
        )

    def summary(self, facts: ImageClustersFacts) -> str:
        return f"{facts.images:,} images in {facts.clusters:,} clusters"


class _ClusteringWorker(UnitWorker):
    def __init__(self, folder: str, clusters: str):
        self._folder, self._clusters = folder, read_clusters(clusters)

    def output_url(self, unit: ShardUnit) -> str:
        return stores.join(self._folder, sidecar_name(unit.number))

    def make(self, unit: ShardUnit) -> bytes:
        if unit.input_sidecar is None:
            raise UnusableUnitError([Skipped(unit.shard.url, None, "has no features", unit.shard.samples)])
        given = read_sidecar(unit.input_sidecar, [FEATURES])
        labels = self._clusters.labels(given[FEATURES], np.zeros(len(given[KEY]), np.int64))
        return encode_sidecar(given[KEY], {LABEL: labels}, {"images": len(labels)})

    def facts(self, unit: ShardUnit, content: bytes) -> JsonObject:
        return sidecar_facts(content, self.output_url(unit))
