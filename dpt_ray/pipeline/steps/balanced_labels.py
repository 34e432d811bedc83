"""Pseudo-labels whose counts follow given class shares, instead of the most probable classes."""

from collections.abc import Iterator

import numpy as np
import torch

from dpt_ray.config.pseudo_data_section import PseudoLabelsConfig
from dpt_ray.core.balanced_assignment import balanced_classes, largest_miss
from dpt_ray.core.seeds import derive_seed
from dpt_ray.data.loading.source import CONFIDENCE, LABEL, TOP_CLASSES, TOP_PROBABILITIES
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.label_counts import encode_label_counts
from dpt_ray.data.shards.sidecars import KEY, decode_sidecar, encode_sidecar, read_sidecar, sidecar_facts, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import ShardUnit, UnitWorker, UnusableUnitError, shard_units
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.balanced_predictions import BalancedLabelsFacts, BalancedShard
from dpt_ray.pipeline.artifacts.predictions import (
    AVERAGED,
    PROBABILITIES,
    SIDECARS,
    sidecar_urls,
    summarise_predictions,
)
from dpt_ray.pipeline.execution.balancing_groups import balance_classes
from dpt_ray.pipeline.execution.step import Step, StepContext


class BalancedLabels(Step[BalancedLabelsFacts]):
    """`Predictions` with balanced labels and their confidence. Its sidecars replace those of `Predictions`.

    Args:
        config: the section `pseudo_labels`: class shares and sharpness.
        predictions: makes stage 1's predictions, with all probabilities.
        images: indexes the images of those predictions.
    """

    name = "balanced_labels"
    version = 4
    facts_type = BalancedLabelsFacts

    def __init__(self, config: PseudoLabelsConfig, predictions: Step, images: Step):
        self._config = config
        super().__init__("balanced pseudo-labels", {"predictions": predictions, "images": images})

    @property
    def settings(self) -> JsonObject:
        return {"class_shares": self._config.class_shares, "sharpness": self._config.sharpness}

    def plan(self) -> str:
        return "balancing the labels"

    def make(self, context: StepContext) -> BalancedLabelsFacts:
        index = read_index(context.parents["images"].url)
        shares = self._config.class_shares or [1.0] * index.num_classes
        if len(shares) != index.num_classes:
            raise UserError(
                f"names {len(shares)} shares for {index.num_classes} classes", where="pseudo_labels.class_shares"
            )
        predictions = context.parents["predictions"]
        sharpness = self._config.sharpness
        scales = balance_classes(context, predictions, torch.tensor(shares), sharpness)
        files = run_units(
            _BalancingWorker,
            {
                "folder": context.file(SIDECARS),
                "log_scales": scales.log.tolist(),
                "sharpness": sharpness,
                "num_classes": index.num_classes,
                "averaged": predictions.settings.get("averaged_probabilities", False),
            },
            shard_units(index, sidecar_urls(predictions)),
            resources=inference_resources(context.cluster),
            progress=context.progress(index.num_images),
            policy=context.policy,
            folder=context.folder,
        )
        moved = 0

        def shards() -> Iterator[BalancedShard]:
            nonlocal moved
            for shard in map(BalancedShard.from_json, files):
                moved += shard.moved
                yield shard

        facts = summarise_predictions(shards(), index.num_images, index.num_classes)
        return BalancedLabelsFacts(
            **vars(facts),
            moved=moved,
            converged=scales.converged,
            error=scales.error,
            largest_miss=largest_miss(list(facts.predicted_per_class), shares),
        )

    def summary(self, facts: BalancedLabelsFacts) -> str:
        ended = "" if facts.converged else f", NOT converged: error {facts.error:.1e}"
        return f"{facts.images:,} images, {facts.moved:,} of them with another label{ended}"


class _BalancingWorker(UnitWorker):
    def __init__(
        self,
        folder: str,
        log_scales: list[float],
        sharpness: float,
        num_classes: int,
        averaged: bool,
    ):
        self._folder, self._num_classes = folder, num_classes
        self._scales, self._sharpness = torch.tensor(log_scales, dtype=torch.float64), sharpness
        self._confidences = AVERAGED if averaged else PROBABILITIES

    def output_url(self, unit: ShardUnit) -> str:
        return stores.join(self._folder, sidecar_name(unit.number))

    def make(self, unit: ShardUnit) -> bytes:
        if unit.input_sidecar is None:
            raise UnusableUnitError([Skipped(unit.shard.url, None, "has no predictions", unit.shard.samples)])
        given = read_sidecar(unit.input_sidecar)
        probabilities = given[PROBABILITIES].astype(np.float32)
        turns = torch.tensor([derive_seed("balancing tie", key) for key in given[KEY]])
        assigned = balanced_classes(torch.from_numpy(probabilities), self._scales, turns, sharpness=self._sharpness)
        labels = assigned.numpy()
        confidence = given[self._confidences][np.arange(len(labels)), labels].astype(np.float32)
        columns = {LABEL: labels, CONFIDENCE: confidence}
        kept = {name: np.array(given[name]) for name in (TOP_CLASSES, TOP_PROBABILITIES)}
        return encode_sidecar(given[KEY], {**columns, **kept}, {"moved": int((labels != given[LABEL]).sum())})

    def facts(self, unit: ShardUnit, content: bytes) -> JsonObject:
        columns = decode_sidecar(content, self.output_url(unit), [LABEL, CONFIDENCE])
        return {
            "images": len(columns[KEY]),
            "predicted": encode_label_counts(columns[LABEL]),
            "confidence_sum": float(columns[CONFIDENCE].sum(dtype=np.float64)),
            **sidecar_facts(content, self.output_url(unit)),
        }
