"""The worker of `Predictions`, which processes one shard after another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.pseudo_data_section import PseudoLabelsConfig
from dpt_ray.core.fitting_batch import PREDICTED_ON_CPU, image_batch_size
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.semi_supervised.weak_strong_augmentation import Weak
from dpt_ray.core.training.compute import FLOAT32, Precision
from dpt_ray.data.loading.decoded_batches import decoded_batches
from dpt_ray.data.loading.source import CONFIDENCE, LABEL, TOP_CLASSES, TOP_PROBABILITIES
from dpt_ray.data.shards.label_counts import encode_label_counts
from dpt_ray.data.shards.sidecars import KEY, decode_sidecar, encode_sidecar, read_sidecar, sidecar_name
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.distributed.units import ShardUnit, UnitWorker, UnusableUnitError, read_unit_samples
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.probe import Probe
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.predictions import AVERAGED, PROBABILITIES

_VIEW_SEED = derive_seed("pseudo-label views")
"""Seed of the weak views, the same for all runs. A view follows from it, the key of the image and its own number."""


@dataclass(frozen=True)
class PredictionSettings:
    """The settings of `Predictions`.

    Attributes:
        data: the section `data`: size and channels of the images.
        features: whether the classifier's features are kept.
        details: the section `pseudo_labels`: which columns are kept, and how confidence is computed. None for
            predictions that are not pseudo-labels.
        classifier: the section of the classifier's stage: its augmentation, for the weak views over which confidence is
            averaged, and the precision of its training. None for a probe, which predicts from features.
        kept: number of most probable classes that are kept without `details`.
    """

    data: DataConfig
    features: bool = False
    details: PseudoLabelsConfig | None = None
    classifier: ClassifierConfig | None = None
    kept: int = 0

    @property
    def top_k(self) -> int:
        """Number of most probable classes that are kept with their probabilities; 0 keeps neither."""
        return self.details.top_k if self.details is not None else self.kept

    @property
    def views(self) -> int:
        """Number of weak views over which confidence is averaged; 0 stands for the unaugmented image."""
        return self.details.views if self.details is not None and self.classifier is not None else 0

    @property
    def precision(self) -> Precision:
        """Number format in which the classifier's features are computed."""
        return self.classifier.precision if self.classifier is not None else FLOAT32

    @property
    def probabilities(self) -> bool:
        """Whether the probabilities of all classes are kept: labels are balanced with them."""
        return self.details is not None and self.details.assignment == "balanced"


@dataclass(frozen=True)
class Outputs:
    """The predictions for a shard of N images with C classes.

    Attributes:
        keys: the images' keys, N.
        probabilities: of the unaugmented images, float32 (N, C).
        features: of the unaugmented images, float32 (N, D).
        averaged: probabilities averaged over weak views, float32 (N, C); `probabilities` without views.
    """

    keys: list[str]
    probabilities: np.ndarray
    features: np.ndarray
    averaged: np.ndarray


class PredictionWorker(UnitWorker):
    """Predicts the classes of the images of shards; see `Predictions` for the columns.

    Args:
        settings: the settings of the step.
        num_classes: number of classes.
        classifier: URL of the classifier's file.
        from_features: whether a probe predicts, from the features that are given with a shard; otherwise a network
            predicts from its images.
        transduced: URL of the folder with the probabilities that the probe's fit has found; None for other images.
        folder: URL of the folder for sidecars.
        batch: number of images that the classifier labels together; None to find it, see `batch_size`.
        device: the torch device that computes.
    """

    def __init__(
        self,
        settings: PredictionSettings,
        num_classes: int,
        classifier: str,
        from_features: bool,
        transduced: str | None,
        folder: str,
        batch: int | None,
        device: str,
    ):
        self._settings, self._form = settings, image_form(settings.data)
        self._given, self._device = batch, device
        self._num_classes, self._from_features, self._folder = num_classes, from_features, folder
        self._transduced = transduced
        self._file = classifier
        self._classifier: Any = None
        self._batch = PREDICTED_ON_CPU

    def output_url(self, unit: ShardUnit) -> str:
        return stores.join(self._folder, sidecar_name(unit.number))

    def make(self, unit: ShardUnit) -> bytes:
        if self._classifier is None and self._transduced is None:
            self._open()
        outputs = self._from_sidecar(unit) if self._from_features else self._from_images(unit)
        labels = outputs.probabilities.argmax(1).astype(np.int64)
        columns = {LABEL: labels, CONFIDENCE: outputs.averaged[np.arange(len(labels)), labels]}
        if self._settings.top_k:
            top = np.argsort(-outputs.probabilities, axis=1, kind="stable")[:, : self._settings.top_k]
            columns[TOP_CLASSES] = top.astype(np.int32)
            columns[TOP_PROBABILITIES] = np.take_along_axis(outputs.probabilities, top, axis=1)
        if self._settings.probabilities:
            columns[PROBABILITIES] = outputs.probabilities.astype(np.float16)
            if self._settings.views:
                columns[AVERAGED] = outputs.averaged.astype(np.float16)
        if self._settings.features:
            columns[FEATURES] = outputs.features
        return encode_sidecar(outputs.keys, columns)

    def facts(self, unit: ShardUnit, content: bytes) -> JsonObject:
        columns = decode_sidecar(content, self.output_url(unit), [LABEL, CONFIDENCE])
        return {
            "images": len(columns[KEY]),
            "predicted": encode_label_counts(columns[LABEL]),
            "confidence_sum": float(columns[CONFIDENCE].sum(dtype=np.float64)),
        }

    def _open(self) -> None:
        if self._from_features:
            self._classifier = Probe(self._file, self._device)
            self._batch = self._given or PREDICTED_ON_CPU
            return
        self._classifier = Classifier(self._file, self._device, precision=self._settings.precision)
        self._batch = image_batch_size(self._given, PREDICTED_ON_CPU, self._classifier, self._form.shape, self._device)

    def _from_images(self, unit: ShardUnit) -> Outputs:
        shard = unit.shard
        samples = read_unit_samples(shard)
        parts: list[tuple[np.ndarray, ...]] = []
        for together, decoded in decoded_batches(samples, self._form, shard, self._batch, self._device):
            images = torch.from_numpy(decoded)
            probabilities, features = self._classifier(images)
            averaged = (
                self._average(images, [sample.key for sample in together]) if self._settings.views else probabilities
            )
            parts.append((probabilities.numpy(), features.numpy(), averaged.numpy()))
        joined = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Outputs([sample.key for sample in samples], *joined)

    def _average(self, images: torch.Tensor, keys: list[str]) -> torch.Tensor:
        assert self._settings.classifier is not None
        augmentation = self._settings.classifier.augmentation
        weak = Weak(augmentation.flip, augmentation.crop_padding)
        total: torch.Tensor | None = None
        for number in range(self._settings.views):
            random = RowRandom([derive_seed("view", _VIEW_SEED, key, number) for key in keys])
            probabilities, _ = self._classifier(weak(images, random))
            total = probabilities if total is None else total + probabilities
        assert total is not None
        return total / self._settings.views

    def _from_sidecar(self, unit: ShardUnit) -> Outputs:
        if unit.input_sidecar is None:
            raise UnusableUnitError([Skipped(unit.shard.url, None, "could not be encoded", unit.shard.samples)])
        sidecar = read_sidecar(unit.input_sidecar, [FEATURES])
        features = np.array(sidecar[FEATURES])
        if self._transduced is not None:
            probabilities = np.array(
                read_sidecar(stores.join(self._transduced, sidecar_name(unit.number)), [PROBABILITIES])[PROBABILITIES]
            )
            return Outputs(sidecar[KEY], probabilities, features, probabilities)
        pieces = torch.from_numpy(features).split(self._batch)
        probabilities = torch.cat([self._classifier.classify(piece) for piece in pieces]).numpy()
        return Outputs(sidecar[KEY], probabilities, features, probabilities)
