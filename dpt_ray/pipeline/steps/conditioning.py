"""The labels on which the generator is conditioned, where they differ from the pseudo-labels
(`stage2.conditioning`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dpt_ray.config.generator_section import ConditioningConfig
from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.data.loading.source import CONFIDENCE, LABEL
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.label_counts import decode_counts, encode_label_counts
from dpt_ray.data.shards.sidecar_urls import SidecarUrls
from dpt_ray.data.shards.sidecars import KEY, encode_sidecar, read_sidecar, sidecar_facts, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import ShardUnit, UnitWorker, UnusableUnitError, shard_units
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.conditioning_labels import (
    LABELLED,
    ConditionedShard,
    ConditioningLabelsFacts,
    conditioned,
)
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.predictions import SIDECARS, prediction_sidecars, sidecar_urls
from dpt_ray.pipeline.execution.cluster_groups import CLUSTERS_FILE, divide_classes, read_clusters, write_clusters
from dpt_ray.pipeline.execution.step import Step, StepContext

_FEATURES = "features"
"""Role of a parent: stage 1's predictions with features."""


class ConditioningLabels(Step[ConditioningLabelsFacts]):
    """Pseudo-labels without uncertain ones, with true labels of labelled images, and divided into clusters, as the
    settings say.

    Args:
        config: the section `stage2.conditioning`.
        pseudo_labels: makes the pseudo-labels.
        images: indexes the images of those labels.
        labelled: chooses the labelled images; a parent with `true_labels` only.
        features: makes stage 1's predictions with features; a parent with `clusters` above 1 only.
    """

    name = "conditioning_labels"
    facts_type = ConditioningLabelsFacts

    def __init__(
        self,
        config: ConditioningConfig,
        pseudo_labels: Step,
        images: Step,
        labelled: Step,
        features: Step | None = None,
    ):
        self._config = config
        parents: dict[str, Step] = {"pseudo_labels": pseudo_labels, "images": images}
        if config.true_labels:
            parents[LABELLED] = labelled
        if config.clusters > 1 and features is not None:
            parents[_FEATURES] = features
        super().__init__("labels for the generator", parents)

    @property
    def settings(self) -> JsonObject:
        clusters = {"clusters": self._config.clusters} if _FEATURES in self.parents else {}
        return {"least_confidence": self._config.least_confidence, **clusters}

    def plan(self) -> str:
        known = ["true labels where they are known"] if LABELLED in self.parents else []
        least = self._config.least_confidence
        dropped = [f"no label under a confidence of {least:g}"] if least > 0 else []
        clusters = [f"{self._config.clusters} clusters of each class"] if _FEATURES in self.parents else []
        return ", ".join([*known, *dropped, *clusters])

    def make(self, context: StepContext) -> ConditioningLabelsFacts:
        index = read_index(context.parents["images"].url)
        known: dict[int, dict[int, int]] = {}
        for image in read_labelled(context.parents[LABELLED]) if LABELLED in self.parents else ():
            known.setdefault(image.shard, {})[image.row] = image.label
        clusters, features = None, None
        if _FEATURES in self.parents:
            featured, clusters = context.parents[_FEATURES], context.file(CLUSTERS_FILE)
            found = divide_classes(context, context.parents["pseudo_labels"], featured, self._config.clusters)
            write_clusters(clusters, found)
            features = prediction_sidecars(featured)
        files = run_units(
            _ConditioningWorker,
            {
                "folder": context.file(SIDECARS),
                "least_confidence": self._config.least_confidence,
                "clusters": clusters,
                "features": features,
            },
            [
                _Conditioned(unit.number, unit.shard, unit.input_sidecar, known.get(unit.number, {}))
                for unit in shard_units(index, sidecar_urls(context.parents["pseudo_labels"]))
            ],
            resources=inference_resources(context.cluster),
            progress=context.progress(index.num_images),
            policy=context.policy,
            folder=context.folder,
        )
        shards = tuple(ConditionedShard.from_json(file) for file in files)
        return ConditioningLabelsFacts(
            images=sum(shard.images for shard in shards),
            known=sum(shard.known or 0 for shard in shards),
            corrected=sum(shard.corrected or 0 for shard in shards),
            dropped=sum(shard.dropped or 0 for shard in shards),
            images_of_labels=_images_of_labels(shards, index.num_classes * self._config.clusters) if clusters else (),
            files=shards,
        )

    def summary(self, facts: ConditioningLabelsFacts) -> str:
        return (
            f"{facts.images:,} images: {facts.known:,} true labels ({facts.corrected:,} of them corrections), "
            f"{facts.dropped:,} without a label"
        )


def _images_of_labels(shards: Sequence[ConditionedShard], labels: int) -> tuple[int, ...]:
    images = np.zeros(labels, np.int64)
    for shard in shards:
        found, counts = decode_counts(shard.labels or "")
        images[found] += counts
    return tuple(images.tolist())


@dataclass(frozen=True)
class _Conditioned(ShardUnit):
    """A shard with its known labels: number of a sample -> its class id."""

    known: Mapping[int, int] = field(default_factory=dict)


class _ConditioningWorker(UnitWorker):
    def __init__(self, folder: str, least_confidence: float, clusters: str | None, features: SidecarUrls | None):
        self._folder, self._least, self._features = folder, least_confidence, features
        self._clusters = None if clusters is None else read_clusters(clusters)

    def output_url(self, unit: _Conditioned) -> str:
        return stores.join(self._folder, sidecar_name(unit.number))

    def make(self, unit: _Conditioned) -> bytes:
        if unit.input_sidecar is None:
            raise UnusableUnitError([Skipped(unit.shard.url, None, "has no pseudo-labels", unit.shard.samples)])
        given, known = read_sidecar(unit.input_sidecar, [LABEL, CONFIDENCE]), dict(unit.known)
        labels, confidence = conditioned(given[LABEL], given[CONFIDENCE], known, self._least)
        facts: dict[str, int | str] = {
            "images": len(labels),
            "known": len(known),
            "corrected": sum(int(given[LABEL][row]) != label for row, label in known.items()),
            "dropped": int((labels == UNKNOWN_LABEL).sum()),
        }
        if self._clusters is not None and self._features is not None:
            url = self._features[unit.number]
            if url is None:
                raise UnusableUnitError([Skipped(unit.shard.url, None, "has no features", unit.shard.samples)])
            labels = self._clusters.labels(read_sidecar(url, [FEATURES])[FEATURES], labels)
            facts["labels"] = encode_label_counts(labels[labels != UNKNOWN_LABEL])
        return encode_sidecar(given[KEY], {LABEL: labels, CONFIDENCE: confidence}, facts)

    def facts(self, unit: _Conditioned, content: bytes) -> JsonObject:
        return sidecar_facts(content, self.output_url(unit))
