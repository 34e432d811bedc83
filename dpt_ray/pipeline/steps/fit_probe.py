"""Stages 1 and 3 by a linear probe on features of a frozen encoder (the paper's ImageNet recipe)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpt_ray.config.schema import ProbeConfig
from dpt_ray.core.probe.logistic import Chunks, LogisticFit, fit_logistic
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.probe.temperature import out_of_fold_temperature
from dpt_ray.core.transfer import own_device
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.storage import stores
from dpt_ray.distributed.cluster import inference_resources
from dpt_ray.distributed.run_remote import run_once
from dpt_ray.distributed.training_job import HISTORY_FILE
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.probe import probe_file
from dpt_ray.pipeline.artifacts.features import features_urls, read_features
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.predictions import read_predictions
from dpt_ray.pipeline.artifacts.pseudo_images import conditioning_labels
from dpt_ray.pipeline.artifacts.trained_network import CLASSIFIER_TITLES, ProbeFacts
from dpt_ray.pipeline.execution.classifier_stage import ClassifierStage
from dpt_ray.pipeline.execution.mixing import PSEUDO_PREDICTIONS
from dpt_ray.pipeline.execution.step import Step, StepContext


class FitProbe(Step[ProbeFacts]):
    """Fit a probe to the features of the labelled images; in stage 3 to the features of pseudo images as well.

    Unlabelled images and stage 1's pseudo-labels are not used (reference: the paper's ImageNet recipe).

    Args:
        stage: the stage's settings and parents; only the section `probe` of the settings is read.
        encoded: makes the features of the training images.
        encoded_pseudo: makes the features of the pseudo images (stage 3).
    """

    name = "classifier"
    facts_type = ProbeFacts

    def __init__(self, stage: ClassifierStage, encoded: Step, encoded_pseudo: Step | None = None):
        self.probe = stage.config.probe
        parents: dict[str, Step] = {"images": stage.train_data, "labelled": stage.labelled, "encoded": encoded}
        if stage.pseudo_images is not None and encoded_pseudo is not None:
            parents |= {"pseudo_images": stage.pseudo_images, "encoded_pseudo": encoded_pseudo}
            if self.probe.only_agreeing and stage.pseudo_predictions is not None:
                parents[PSEUDO_PREDICTIONS] = stage.pseudo_predictions
        super().__init__(stage.title or CLASSIFIER_TITLES[stage.name], parents)

    @property
    def settings(self) -> JsonObject:
        fitting = {"regularisation", "tolerance", "max_evaluations"}
        if "pseudo_images" in self.parents:
            fitting.add("only_agreeing")
        return {"probe": self.probe.model_dump(mode="json", include=fitting)}

    def plan(self) -> str:
        return "fitting a linear probe to the encoder's features"

    def summary(self, facts: ProbeFacts) -> str:
        ended = "" if facts.converged else f", NOT converged: gradient {facts.gradient:.1e}"
        return f"{facts.rows:,} images, {facts.evaluations} passes, objective {facts.loss:.4g}{ended}"

    def make(self, context: StepContext) -> ProbeFacts:
        parents = context.parents
        num_classes = read_index(parents["images"].url).num_classes
        pieces = _labelled_pieces(context)
        with_pseudo = "pseudo_images" in parents
        if with_pseudo:
            pieces += _pseudo_pieces(context)
        fitted, temperature = run_once(
            _fit,
            pieces,
            self.probe,
            num_classes,
            not with_pseudo,
            context.cluster.keep_mib * 2**20,
            resources=inference_resources(context.cluster),
        )
        file = probe_file(self.probe, num_classes, temperature, fitted.weight)
        stores.write_bytes(context.file(NETWORK_FILE), file)
        history = [{"images": number + 1, "loss": value} for number, value in enumerate(fitted.objectives)]
        stores.write_json(context.file(HISTORY_FILE), history)
        return ProbeFacts(
            rows=sum(len(piece.labels) for piece in pieces),
            evaluations=len(fitted.objectives),
            loss=fitted.objective,
            gradient=fitted.gradient,
            converged=fitted.converged,
            temperature=temperature,
        )


@dataclass(frozen=True)
class _Piece:
    """Rows of one feature sidecar and their labels, int64; `rows` None stands for all rows."""

    url: str
    rows: tuple[int, ...] | None
    labels: np.ndarray

    def read(self) -> tuple[Tensor, Tensor]:
        """Return normalised features and labels."""
        features = read_features(self.url)
        chosen = features if self.rows is None else features[list(self.rows)]
        return normalise_rows(torch.from_numpy(np.array(chosen))), torch.from_numpy(self.labels)


def _pseudo_pieces(context: StepContext) -> list[_Piece]:
    """Return the pseudo images with the classes that were requested, without those that stage 1 sees otherwise."""
    parents = context.parents
    conditioning = conditioning_labels(read_index(parents["pseudo_images"].url))
    urls = features_urls(parents["encoded_pseudo"])
    if PSEUDO_PREDICTIONS not in parents:
        return [_Piece(url, None, labels) for url, labels in zip(urls, conditioning, strict=True) if url]
    pieces = []
    predictions = read_predictions(parents[PSEUDO_PREDICTIONS], LABEL)
    for url, labels, seen in zip(urls, conditioning, predictions, strict=True):
        rows = np.flatnonzero(seen[LABEL] == labels) if seen is not None else ()
        if url is not None and len(rows):
            pieces.append(_Piece(url, tuple(int(row) for row in rows), labels[rows]))
    return pieces


def _labelled_pieces(context: StepContext) -> list[_Piece]:
    by_shard: dict[int, list[LabelledImage]] = {}
    for image in read_labelled(context.parents["labelled"]):
        by_shard.setdefault(image.shard, []).append(image)
    pieces = []
    urls = features_urls(context.parents["encoded"])
    for shard, images in by_shard.items():
        if (url := urls[shard]) is not None:
            labels = np.array([image.label for image in images], np.int64)
            pieces.append(_Piece(url, tuple(image.row for image in images), labels))
    return pieces


def _fit(
    pieces: list[_Piece], probe: ProbeConfig, num_classes: int, calibrate: bool, keep_bytes: int
) -> tuple[LogisticFit, float]:
    """Return the fit of a probe and, with `calibrate`, its temperature; otherwise 1. It runs in a Ray task."""
    device = own_device()
    rows = sum(len(piece.labels) for piece in pieces)
    first, _ = pieces[0].read()
    num_features = first.shape[1]
    chunks = _kept(pieces) if rows * num_features * 4 <= keep_bytes else _streamed(pieces)

    def fit(data: Chunks, count: int) -> LogisticFit:
        return fit_logistic(
            data,
            num_features,
            num_classes,
            l2=probe.regularisation / count,
            tolerance=probe.tolerance,
            max_evaluations=probe.max_evaluations,
            device=device,
        )

    def weight(features: Tensor, labels: Tensor) -> Tensor:
        return fit(lambda: [(features, labels)], len(labels)).weight

    temperature = 1.0
    if calibrate:
        features, labels = (torch.cat(parts) for parts in zip(*chunks(), strict=True))
        temperature = out_of_fold_temperature(features, labels, weight)
    return fit(chunks, rows), temperature


def _kept(pieces: list[_Piece]) -> Chunks:
    features, labels = (torch.cat(parts) for parts in zip(*(piece.read() for piece in pieces), strict=True))
    split = list(zip(features.split(_ROWS), labels.split(_ROWS), strict=True))
    return lambda: split


_ROWS = 4096
"""Number of rows whose probabilities are computed together; it bounds memory."""


def _streamed(pieces: list[_Piece]) -> Chunks:
    def read() -> Iterator[tuple[Tensor, Tensor]]:
        for piece in pieces:
            yield piece.read()

    return read
