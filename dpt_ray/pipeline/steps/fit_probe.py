"""Stages 1 and 3 by a linear probe on features of a frozen encoder (the paper's ImageNet recipe)."""

from dataclasses import replace

import numpy as np

from dpt_ray.config.effects import read_settings
from dpt_ray.config.probe_section import ProbeConfig
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.storage import stores
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.run_remote import run_once
from dpt_ray.distributed.training_job import HISTORY_FILE
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.probe import head_file
from dpt_ray.pipeline.artifacts.features import FeaturesFacts, features_urls
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.pseudo_images import requested_labels
from dpt_ray.pipeline.artifacts.trained_network import CLASSIFIER_TITLES, ProbeFacts
from dpt_ray.pipeline.artifacts.transduced import write_transduced
from dpt_ray.pipeline.execution.agreeing_images import agreeing_images
from dpt_ray.pipeline.execution.classifier_stage import ClassifierStage
from dpt_ray.pipeline.execution.feature_pieces import FeaturePiece
from dpt_ray.pipeline.execution.fit_heads import HeadData, HeadFit, fit_head
from dpt_ray.pipeline.execution.mixing import PSEUDO_PREDICTIONS
from dpt_ray.pipeline.execution.step import Step, StepContext

_UNLABELLED = -1


class FitProbe(Step[ProbeFacts]):
    """Fit a probe to the features of the labelled images; in stage 3 to the features of pseudo images as well.

    Logistic regression uses no unlabelled images (reference: the paper's ImageNet recipe). The other heads use their
    features. Stage 1's pseudo-labels are never used, nor any label of an image outside the labelled ones.

    Args:
        stage: the stage's settings and parents; only the section `probe` of the settings is read.
        encoded: makes the features of the training images.
        encoded_pseudo: makes the features of the pseudo images (stage 3).
    """

    name = "classifier"
    facts_type = ProbeFacts

    def __init__(self, stage: ClassifierStage, encoded: Step, encoded_pseudo: Step | None = None):
        self.probe, self.encoder = stage.config.probe, stage.encoder
        parents: dict[str, Step] = {"images": stage.train_data, "labelled": stage.labelled, "encoded": encoded}
        if stage.pseudo_images is not None and encoded_pseudo is not None:
            parents |= {"pseudo_images": stage.pseudo_images, "encoded_pseudo": encoded_pseudo}
            if self.probe.only_agreeing and stage.pseudo_predictions is not None:
                parents[PSEUDO_PREDICTIONS] = stage.pseudo_predictions
        super().__init__(stage.title or CLASSIFIER_TITLES[stage.name], parents)

    @property
    def settings(self) -> JsonObject:
        read = read_settings(self.probe)
        used = {"regularisation", "tolerance", "max_evaluations"}
        if self.probe.head != "logistic":  # without it, addresses are those of versions that had no other head
            used |= {"head", self.probe.head}
        if "pseudo_images" in self.parents:
            used.add("only_agreeing")
        return {"probe": {name: value for name, value in read.items() if name in used}}

    def transduces(self, images: Step) -> bool:
        """Whether the fit itself finds the class probabilities of these images: label propagation on their graph."""
        return self.probe.head == "propagation" and images.fingerprint == self.parents["images"].fingerprint

    def plan(self) -> str:
        return f"fitting a {_HEADS[self.probe.head]} to the encoder's features"

    def summary(self, facts: ProbeFacts) -> str:
        ended = "" if facts.converged else f", NOT converged: gradient {facts.gradient:.1e}"
        labelled = "" if facts.labelled is None else f" ({facts.labelled:,} labelled)"
        unreached = f", {facts.unreached:,} that no label reaches" if facts.unreached else ""
        return (
            f"{facts.rows:,} images{labelled}, {facts.evaluations} passes, objective {facts.loss:.4g}{ended}{unreached}"
        )

    def make(self, context: StepContext) -> ProbeFacts:
        parents = context.parents
        with_pseudo, alone = "pseudo_images" in parents, self.probe.head == "logistic"
        pieces = _labelled_pieces(context) if alone else _all_pieces(context)
        own = sum(len(piece.labels) for piece in pieces)
        if with_pseudo:
            pieces += _pseudo_pieces(context)
        data = HeadData(
            pieces,
            read_index(parents["images"].url).num_classes,
            calibrated=0 if with_pseudo and alone else own,
            keep_bytes=context.cluster.keep_mib * 2**20,
        )
        encoded = features_urls(parents["encoded"])
        resources = inference_resources(context.cluster)
        fitted = run_once(_fit, data, self.probe, context.folder, encoded, resources=resources)
        stores.write_bytes(context.file(NETWORK_FILE), head_file(self.probe, fitted.temperature, fitted.head))
        history = [{"images": number + 1, "loss": value} for number, value in enumerate(fitted.objectives)]
        stores.write_json(context.file(HISTORY_FILE), history)
        return ProbeFacts(
            rows=sum(len(piece.labels) for piece in pieces),
            evaluations=len(fitted.objectives),
            loss=fitted.objective,
            gradient=fitted.gradient,
            converged=fitted.converged,
            temperature=fitted.temperature,
            labelled=None if alone else sum(int((piece.labels >= 0).sum()) for piece in pieces),
            unreached=fitted.unreached,
        )


_HEADS = {"logistic": "linear probe", "propagation": "label propagation", "mixture": "Gaussian mixture"}


def _fit(data: HeadData, probe: ProbeConfig, folder: str, encoded: list[str | None]) -> HeadFit:
    """Fit a head in a Ray task, and write there what it found for all training images, which may be large."""
    fitted = fit_head(data, probe)
    if fitted.probabilities is not None:
        write_transduced(folder, encoded, fitted.probabilities)
    return replace(fitted, probabilities=None)


def _pseudo_pieces(context: StepContext) -> list[FeaturePiece]:
    """Return the pseudo images with the classes that were requested, without those that stage 1 sees otherwise."""
    parents = context.parents
    index = read_index(parents["pseudo_images"].url)
    requested, urls = requested_labels(index), features_urls(parents["encoded_pseudo"])
    if PSEUDO_PREDICTIONS not in parents:
        return [
            FeaturePiece(url, None, labels.astype(np.int32)) for url, labels in zip(urls, requested, strict=True) if url
        ]
    pieces = []
    agreeing = agreeing_images(context, index, parents[PSEUDO_PREDICTIONS])
    for url, labels, agrees in zip(urls, requested, agreeing, strict=True):
        rows = np.flatnonzero(agrees).astype(np.int32)
        if url is not None and len(rows):
            pieces.append(FeaturePiece(url, rows, labels[rows].astype(np.int32)))
    return pieces


def _labelled_pieces(context: StepContext) -> list[FeaturePiece]:
    pieces = []
    urls = features_urls(context.parents["encoded"])
    for shard, images in _labelled_by_shard(context).items():
        if (url := urls[shard]) is not None:
            rows, labels = (np.array([getattr(image, name) for image in images], np.int32) for name in ("row", "label"))
            pieces.append(FeaturePiece(url, rows, labels))
    return pieces


def _all_pieces(context: StepContext) -> list[FeaturePiece]:
    """Return the features of all training images, with the labels of the labelled ones."""
    pieces = []
    encoded, labelled = context.parents["encoded"], _labelled_by_shard(context)
    files = FeaturesFacts.read(encoded).files
    for shard, (url, file) in enumerate(zip(features_urls(encoded), files, strict=True)):
        if url is not None:
            labels = np.full(file.images, _UNLABELLED, np.int32)
            for image in labelled.get(shard, ()):
                labels[image.row] = image.label
            pieces.append(FeaturePiece(url, None, labels))
    return pieces


def _labelled_by_shard(context: StepContext) -> dict[int, list[LabelledImage]]:
    by_shard: dict[int, list[LabelledImage]] = {}
    for image in read_labelled(context.parents["labelled"]):
        by_shard.setdefault(image.shard, []).append(image)
    return by_shard
