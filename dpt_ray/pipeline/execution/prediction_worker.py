"""What `Predictions` does with one shard."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dpt_ray.core.row_random import RowRandom, derive_seed
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Weak
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.source import CONFIDENCE, LABEL, decode_samples
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.sidecars import KEY, decode_sidecar, encode_sidecar, read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import UnitWorker, UnusableUnitError, read_unit_samples
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.probe import Probe
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.predictions import AVERAGED, PROBABILITIES, TOP_CLASSES, TOP_PROBABILITIES


@dataclass(frozen=True)
class Views:
    """Weak views of every image over which confidence is averaged.

    Attributes:
        count: how many.
        flip, crop_padding: see `Weak`.
        seed: with an image's key it fixes its views.
    """

    count: int
    flip: bool
    crop_padding: int
    seed: int


@dataclass(frozen=True)
class Outputs:
    """Of a shard: keys, probabilities of the images as they are, features, probabilities averaged over views."""

    keys: list[str]
    probabilities: np.ndarray
    features: np.ndarray
    averaged: np.ndarray


class PredictionWorker(UnitWorker):
    """Predicts the classes of one shard's images after another's; see `Predictions` for the columns.

    Args:
        index: the images.
        classifier: URL of the classifier's file.
        encoded: URL of each shard's features, which a probe predicts from; None for a network, which reads images.
        folder: where sidecars go.
        batch: images together.
        device: where the classifier computes.
        form: what images are brought to.
        features: keep the features.
        top_k: how many of the most probable classes are kept.
        probabilities: keep them all, and those averaged over views if there are views.
        views: what confidence is averaged over.
    """

    def __init__(
        self,
        index: DatasetIndex,
        classifier: str,
        encoded: list[str | None] | None,
        folder: str,
        batch: int,
        device: str,
        form: ImageForm,
        features: bool,
        top_k: int,
        probabilities: bool,
        views: Views | None,
    ):
        self._index, self._encoded, self._folder = index, encoded, folder
        self._batch, self._form = batch, form
        self._features, self._top_k, self._probabilities = features, top_k, probabilities
        self._views = views
        self._open = lambda: (Classifier if encoded is None else Probe)(classifier, device)
        self._classifier: Any = None

    def output_url(self, unit: int) -> str:
        return stores.join(self._folder, sidecar_name(unit))

    def make(self, unit: int) -> bytes:
        if self._classifier is None:
            self._classifier = self._open()
        outputs = self._from_images(unit) if self._encoded is None else self._from_features(unit, self._encoded[unit])
        labels = outputs.probabilities.argmax(1).astype(np.int64)
        columns = {LABEL: labels, CONFIDENCE: outputs.averaged[np.arange(len(labels)), labels]}
        if self._top_k:
            top = np.argsort(-outputs.probabilities, axis=1, kind="stable")[:, : self._top_k]
            columns[TOP_CLASSES] = top.astype(np.int32)
            columns[TOP_PROBABILITIES] = np.take_along_axis(outputs.probabilities, top, axis=1)
        if self._probabilities:
            columns[PROBABILITIES] = outputs.probabilities.astype(np.float16)
            if self._views is not None:
                columns[AVERAGED] = outputs.averaged.astype(np.float16)
        if self._features:
            columns[FEATURES] = outputs.features
        return encode_sidecar(outputs.keys, columns)

    def facts(self, unit: int, content: bytes) -> dict[str, Any]:
        columns = decode_sidecar(content, self.output_url(unit), [LABEL, CONFIDENCE])
        return {
            "images": len(columns[KEY]),
            "predicted": np.bincount(columns[LABEL], minlength=self._index.num_classes).tolist(),
            "confidence_sum": float(columns[CONFIDENCE].sum(dtype=np.float64)),
        }

    def _from_images(self, unit: int) -> Outputs:
        shard = self._index.shards[unit]
        samples = read_unit_samples(shard)
        parts: list[tuple[np.ndarray, ...]] = []
        for start in range(0, len(samples), self._batch):
            together = samples[start : start + self._batch]
            images = torch.from_numpy(decode_samples(together, self._form, shard))
            probabilities, features = self._classifier(images)
            averaged = self._average(images, [sample.key for sample in together]) if self._views else probabilities
            parts.append((probabilities.numpy(), features.numpy(), averaged.numpy()))
        joined = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Outputs([sample.key for sample in samples], *joined)

    def _average(self, images: torch.Tensor, keys: list[str]) -> torch.Tensor:
        assert self._views is not None
        weak = Weak(self._views.flip, self._views.crop_padding)
        total: torch.Tensor | None = None
        for number in range(self._views.count):
            random = RowRandom([derive_seed("view", self._views.seed, key, number) for key in keys])
            probabilities, _ = self._classifier(weak(images, random))
            total = probabilities if total is None else total + probabilities
        assert total is not None
        return total / self._views.count

    def _from_features(self, unit: int, url: str | None) -> Outputs:
        if url is None:
            shard = self._index.shards[unit]
            raise UnusableUnitError([Skipped(shard.url, None, "could not be encoded", shard.samples)])
        sidecar = read_sidecar(url, [FEATURES])
        features = np.array(sidecar[FEATURES])
        pieces = torch.from_numpy(features).split(self._batch)
        probabilities = torch.cat([self._classifier.classify(piece) for piece in pieces]).numpy()
        return Outputs(sidecar[KEY], probabilities, features, probabilities)
