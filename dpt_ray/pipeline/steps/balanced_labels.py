"""Pseudo-labels whose counts follow given class shares, in place of the most probable classes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dpt_ray.config.schema import PseudoLabelsConfig
from dpt_ray.core.semi_supervised.sinkhorn import balanced_classes, class_log_scales
from dpt_ray.data import stores
from dpt_ray.data.index import DatasetIndex, read_index
from dpt_ray.data.sidecars import KEY, decode_sidecar, encode_sidecar, read_sidecar, sidecar_facts, sidecar_name
from dpt_ray.data.skipped import Skipped
from dpt_ray.data.source import LABEL
from dpt_ray.distributed.cluster import inference_resources
from dpt_ray.distributed.inference import UnitWorker, UnusableUnitError, run_units
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts import Artifact
from dpt_ray.pipeline.graph import Step, Workshop
from dpt_ray.pipeline.steps.prediction_worker import CONFIDENCE, PROBABILITIES, TOP_CLASSES, TOP_PROBABILITIES
from dpt_ray.pipeline.steps.predictions import SIDECARS, Predictions, summarise_predictions

SAMPLED_NUMBERS = 2**24
"""Probabilities that the driver holds to find the scales, at most; the number of images does not bound its memory."""


class BalancedLabels(Step):
    """`Predictions` with other labels, and the confidence of those; it stands in wherever pseudo-labels are read.

    Args:
        config: the wanted shares.
        predictions: stage 1's, with all probabilities.
        images: the images that they are of.
    """

    name = "balanced_labels"

    def __init__(self, config: PseudoLabelsConfig, predictions: Predictions, images: Step):
        settings = {"class_shares": config.class_shares, "sharpness": config.sharpness}
        super().__init__("balanced pseudo-labels", settings, {"predictions": predictions, "images": images})

    def plan(self) -> str:
        return "balancing the labels"

    def make(self, workshop: Workshop) -> dict[str, Any]:
        index = read_index(workshop.parents["images"].url)
        shares = self.settings["class_shares"] or [1.0] * index.num_classes
        if len(shares) != index.num_classes:
            raise UserError(
                f"names {len(shares)} shares for {index.num_classes} classes", where="pseudo_labels.class_shares"
            )
        predictions = workshop.parents["predictions"]
        sharpness = self.settings["sharpness"]
        sample = np.concatenate(list(_sampled(predictions, index)))
        scales = class_log_scales(torch.from_numpy(sample), torch.tensor(shares), sharpness=sharpness)
        files = run_units(
            _BalancingWorker,
            {
                "index": index,
                "given": [
                    predictions.file(SIDECARS, sidecar_name(number)) if "sha256" in file else None
                    for number, file in enumerate(predictions.facts["files"])
                ],
                "folder": workshop.file(SIDECARS),
                "log_scales": scales.tolist(),
                "sharpness": sharpness,
            },
            list(range(len(index.shards))),
            resources=inference_resources(workshop.cluster),
            progress=workshop.progress(index.num_images),
            policy=workshop.policy,
        )
        moved = sum(file.pop("moved", 0) for file in files)
        return {**summarise_predictions(files, index.num_images, index.num_classes), "moved": moved}

    def summary(self, facts: Any) -> str:
        return f"{facts['images']:,} images, {facts['moved']:,} of them with another label"


def _sampled(predictions: Artifact, index: DatasetIndex) -> Iterator[np.ndarray]:
    """Yield the probabilities of every n-th image of every shard."""
    stride = -(-index.num_images * index.num_classes // SAMPLED_NUMBERS)
    for number, file in enumerate(predictions.facts["files"]):
        if "sha256" in file:
            sidecar = read_sidecar(predictions.file(SIDECARS, sidecar_name(number)), [PROBABILITIES])
            yield sidecar[PROBABILITIES][number % stride :: stride].astype(np.float32)


class _BalancingWorker(UnitWorker):
    def __init__(
        self, index: DatasetIndex, given: list[str | None], folder: str, log_scales: list[float], sharpness: float
    ):
        self._index, self._given, self._folder = index, given, folder
        self._scales, self._sharpness = torch.tensor(log_scales, dtype=torch.float64), sharpness

    def output_url(self, unit: int) -> str:
        return stores.join(self._folder, sidecar_name(unit))

    def make(self, unit: int) -> bytes:
        url = self._given[unit]
        if url is None:
            shard = self._index.shards[unit]
            raise UnusableUnitError([Skipped(shard.url, None, "has no predictions", shard.samples)])
        given = read_sidecar(url)
        probabilities = given[PROBABILITIES].astype(np.float32)
        labels = balanced_classes(torch.from_numpy(probabilities), self._scales, sharpness=self._sharpness).numpy()
        columns = {LABEL: labels, CONFIDENCE: probabilities[np.arange(len(labels)), labels]}
        kept = {name: np.array(given[name]) for name in (TOP_CLASSES, TOP_PROBABILITIES)}
        return encode_sidecar(given[KEY], {**columns, **kept}, {"moved": int((labels != given[LABEL]).sum())})

    def facts(self, unit: int, content: bytes) -> dict[str, Any]:
        columns = decode_sidecar(content, self.output_url(unit), [LABEL, CONFIDENCE])
        return {
            "images": len(columns[KEY]),
            "predicted": np.bincount(columns[LABEL], minlength=self._index.num_classes).tolist(),
            "confidence_sum": float(columns[CONFIDENCE].sum(dtype=np.float64)),
            **sidecar_facts(content),
        }
