"""Batch inference with a classifier: pseudo-labels of stage 1, and predictions for evaluation."""

from collections.abc import Sequence
from itertools import islice

import numpy as np

from dpt_ray.core.training.compute import FLOAT32
from dpt_ray.data.loading.source import CONFIDENCE, LABEL
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import shard_units
from dpt_ray.json_values import Json, JsonObject
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.pipeline.artifacts.dataset import class_names
from dpt_ray.pipeline.artifacts.features import features_urls
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.predictions import (
    SIDECARS,
    PredictedShard,
    PredictionsFacts,
    prediction_sidecars,
    shard_counts,
    sidecar_urls,
    summarise_predictions,
)
from dpt_ray.pipeline.artifacts.step_facts import summarise_skipped
from dpt_ray.pipeline.artifacts.store import Artifact, store_of
from dpt_ray.pipeline.artifacts.transduced import transduced_folder
from dpt_ray.pipeline.execution.compare_groups import ToCompare, compare_predictions
from dpt_ray.pipeline.execution.prediction_worker import PredictionSettings, PredictionWorker
from dpt_ray.pipeline.execution.result_warnings import calibration, collapse, disagreement, empty_classes
from dpt_ray.pipeline.execution.step import Step, StepContext

_COMPARED_SHARDS = 64
"""Shards whose labelled images are compared with their predictions."""


class Predictions(Step[PredictionsFacts]):
    """Predict the class of every image of a set. Each shard gets a sidecar.

    Columns: `label` int64, the most probable class; `confidence` float32, its probability. With `features`:
    `features` float32 (N, D). With `details` or `kept`: `top_classes` int32 and `top_probabilities` float32, (N, k) in
    descending order. For balanced labels also `probabilities` float16 (N, C) and, with views, `averaged_probabilities`
    float16 (N, C). The label is the argmax for every image, labelled ones included, without a confidence filter
    (reference: the paper's S1). Label propagation gives the probabilities of the images that it was fitted to; its
    logistic regression gives those of others.

    Args:
        title: name of the step in messages.
        predicting: the settings.
        classifier: a `TrainClassifier` or a `FitProbe`.
        images: any step whose artifact is an indexed shard set.
        encoded: makes the features of `images` that a `FitProbe` predicts from; None for a `TrainClassifier`.
        transduced: whether the classifier's artifact has the probabilities of these very images.
    """

    name = "predictions"
    version = 2
    facts_type = PredictionsFacts

    def __init__(
        self,
        title: str,
        predicting: PredictionSettings,
        classifier: Step,
        images: Step,
        encoded: Step | None = None,
        *,
        transduced: bool = False,
    ):
        self._predicting, self._transduced = predicting, transduced
        parents: dict[str, Step] = {"classifier": classifier, "images": images}
        if encoded is not None:
            parents["encoded"] = encoded
        super().__init__(title, parents)

    @property
    def settings(self) -> JsonObject:
        predicting, data = self._predicting, self._predicting.data
        settings: dict[str, Json] = {
            "image_size": data.image_size,
            "channels": data.channels,
            "features": predicting.features,
        }
        if predicting.precision != FLOAT32:
            settings["precision"] = predicting.precision
        if predicting.top_k:
            settings["top_k"] = predicting.top_k
        if predicting.details is not None:
            settings["probabilities"] = predicting.probabilities
        if predicting.views and predicting.classifier is not None:
            augmentation = predicting.classifier.augmentation
            settings["views"] = [predicting.views, augmentation.flip, augmentation.crop_padding]
            if predicting.probabilities:
                settings["averaged_probabilities"] = True
        return settings

    def plan(self) -> str:
        return "labelling every image"

    def make(self, context: StepContext) -> PredictionsFacts:
        classifier = context.parents["classifier"]
        index = read_index(context.parents["images"].url)
        resources = inference_resources(context.cluster)
        encoded = context.parents.get("encoded")
        files = run_units(
            PredictionWorker,
            {
                "settings": self._predicting,
                "num_classes": index.num_classes,
                "classifier": classifier.file(NETWORK_FILE),
                "from_features": encoded is not None,
                "transduced": transduced_folder(classifier) if self._transduced else None,
                "folder": context.file(SIDECARS),
                "batch": context.cluster.inference_batch,
                "device": resources.device,
            },
            shard_units(index, None if encoded is None else features_urls(encoded)),
            resources=resources,
            progress=context.progress(index.num_images),
            policy=context.policy,
            folder=context.folder,
        )
        return summarise_predictions(map(PredictedShard.from_json, files), index.num_images, index.num_classes)

    def warnings(self, facts: PredictionsFacts, context: StepContext) -> list[str]:
        images, classifier = context.parents["images"], context.parents["classifier"]
        index = read_index(images.url)
        names = self._class_names(classifier, index)
        finished = Artifact(context.folder, {"facts": facts.to_json()})
        found: list[str | None] = []
        if images.step == "pseudo_images":
            what = ToCompare((prediction_sidecars(finished),), index.num_classes, confidence=False)
            seen = compare_predictions(context, what, shard_counts(facts).tolist(), "agreement").counts[0]
            found = [disagreement(seen.true, seen.right, names)]
        elif classifier.parent("images") == (images.step, images.fingerprint) and not self._predicting.features:
            predicted = facts.predicted_per_class
            found = [collapse(predicted), empty_classes(predicted, names), _calibration(finished, classifier)]
        return [text for text in found if text is not None]

    def _class_names(self, classifier: Artifact, index: DatasetIndex) -> Sequence[str]:
        """Return the names of the classes: those given, or those of the classifier's training images, or ids."""
        trained_on = _parent(classifier, "images")
        found = read_index(trained_on.url).class_names if trained_on else None
        return class_names(self._predicting.data, index.num_classes, found)

    def summary(self, facts: PredictionsFacts) -> str:
        text = f"{facts.images:,} images, mean confidence {facts.mean_confidence:.3f}"
        return text + summarise_skipped(facts)


def _parent(artifact: Artifact, role: str) -> Artifact | None:
    address = artifact.parent(role)
    return store_of(artifact).find(*address) if address else None


def _calibration(predictions: Artifact, classifier: Artifact) -> str | None:
    """Compare the confidence on labelled images with the accuracy on them."""
    labelled = _parent(classifier, "labelled")
    if labelled is None:
        return None
    by_shard: dict[int, list[LabelledImage]] = {}
    for image in read_labelled(labelled):
        by_shard.setdefault(image.shard, []).append(image)
    urls = sidecar_urls(predictions)
    right, confidence = [], []
    for shard, images in islice(by_shard.items(), _COMPARED_SHARDS):
        if (url := urls[shard]) is not None:
            sidecar, rows = read_sidecar(url, [LABEL, CONFIDENCE]), [image.row for image in images]
            right += (sidecar[LABEL][rows] == [image.label for image in images]).tolist()
            confidence += sidecar[CONFIDENCE][rows].tolist()
    return calibration(float(np.mean(confidence)), float(np.mean(right)), len(right)) if right else None
