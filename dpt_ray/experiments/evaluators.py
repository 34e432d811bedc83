"""Scores of a network during its training, for early stopping; higher is better. They run in a training worker."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dpt_ray.config.pseudo_data_section import SamplingConfig
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.metrics.frechet import GaussianMoments, frechet_distance, gaussian_moments
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.transfer import own_device
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.read_rows import new_arrays, read_rows
from dpt_ray.data.loading.source import IMAGE, LABEL, SourceShard
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.errors import UserError
from dpt_ray.networks.classifier import Classifier
from dpt_ray.networks.files import NETWORK_FILE, open_content
from dpt_ray.networks.generator import Generator
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.predictions import sidecar_urls
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step

BATCH = 100
MOST_SHARDS = 64
"""Shards of validation images that a training worker looks at."""
WORST = -1e9
"""Score of a generator whose images, or their distance, are not finite."""


@dataclass
class ValidationAccuracy:
    """Accuracy of a classifier on validation images.

    Attributes:
        images: URL of their index's artifact.
        form: size and channels to which images are decoded.
        most: largest number of images. They are those of at most `MOST_SHARDS` shards.
    """

    images: str
    form: ImageForm
    most: int
    _read: tuple[torch.Tensor, torch.Tensor] | None = field(default=None, repr=False)

    def __call__(self, network: bytes) -> float:
        if self._read is None:
            self._read = self._read_images()
        images, labels = self._read
        classifier = open_content(Classifier, network)
        predicted = torch.cat([classifier(piece)[0].argmax(1) for piece in images.split(BATCH)])
        return float((predicted == labels).double().mean())

    def _read_images(self) -> tuple[torch.Tensor, torch.Tensor]:
        index = read_index(self.images)
        sidecars = {n: read_sidecar(index.label_sidecar(n), [LABEL]) for n in _some_shards(len(index.shards))}
        known = [
            (derive_seed("look", key), position, row)
            for position, sidecar in sidecars.items()
            for row, key in enumerate(sidecar[KEY])
            if sidecar[LABEL][row] >= 0
        ]
        chosen = sorted(known)[: self.most]  # by a hash: the order of images may follow their classes
        images, labels = [], []
        for position, sidecar in sidecars.items():
            rows = sorted(row for _, where, row in chosen if where == position)
            if rows:
                source, allocate = SourceShard(index.shards[position]), new_arrays(self.form, BATCH)
                images += [block[IMAGE] for block in read_rows(source, rows, self.form, allocate)]
            labels.append(sidecar[LABEL][rows])
        return torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels))


def _some_shards(shards: int) -> list[int]:
    """Return the positions of at most `MOST_SHARDS` shards, chosen by a hash: neighbours may hold the same classes."""
    chosen = sorted(range(shards), key=lambda position: derive_seed("look", position))[:MOST_SHARDS]
    return sorted(chosen)


@dataclass
class PseudoImageDistance:
    """Minus the Fréchet distance of a few pseudo images in the features of stage 1: a cheap proxy of image quality.

    With few images the distance is biased upwards, by about as much for all generators that are compared.

    Attributes:
        classifier: URL of the network of stage 1.
        real: URLs of the sidecars with its features of real images.
        sampling: settings of the sampler.
        seed: seed of the images.
        per_class: number of images of each class.
    """

    classifier: str
    real: list[str]
    sampling: SamplingConfig
    seed: int
    per_class: int
    _kept: Any = field(default=None, repr=False)

    def __call__(self, network: bytes) -> float:
        if self._kept is None:
            self._kept = Classifier(self.classifier, own_device()), self._real_moments()
        classifier, real = self._kept
        generator = open_content(Generator, network)
        wanted = [(label, number) for number in range(self.per_class) for label in range(generator.num_classes)]
        batches = (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))
        try:
            pseudo = gaussian_moments(classifier(generator.draw(self.sampling, self.seed, b))[1] for b in batches)
        except UserError:  # the images are not finite; an evaluation must not end the training
            return WORST
        distance = frechet_distance(real, pseudo)
        return -distance if math.isfinite(distance) else WORST

    def _real_moments(self) -> GaussianMoments:
        return gaussian_moments(
            torch.from_numpy(np.array(read_sidecar(url, [FEATURES])[FEATURES])) for url in self.real
        )


def pseudo_image_distance(
    config: RunConfig, run: DualPseudoTraining, make: Callable[[list[Step]], Mapping[Step, Artifact]], per_class: int
) -> PseudoImageDistance:
    """Return the score of the generator of a run. The steps that it needs are made first."""
    assert run.real_features is not None  # see evaluation.frechet
    made = make([run.real_features, run.pseudo_labels])
    return PseudoImageDistance(
        made[run.classifier].file(NETWORK_FILE),
        [url for url in sidecar_urls(made[run.real_features]) if url is not None],
        without_snapshots(config.sampling),
        run.pseudo_images.seed,
        per_class,
    )


def without_snapshots(sampling: SamplingConfig) -> SamplingConfig:
    """Return sampling settings for a network in training, which has no snapshots: autoguidance becomes no guidance."""
    changes: dict[str, str | float | None] = {"ema_width": None}
    if sampling.guidance_method == "autoguidance":
        changes |= {"guidance_method": "classifier_free", "guidance_scale": 0.0}
    return sampling.model_copy(update=changes)
