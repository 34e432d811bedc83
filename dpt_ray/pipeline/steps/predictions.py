"""Batch inference with a classifier: pseudo-labels of stage 1, and predictions for evaluation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from dpt_ray.config.schema import DataConfig
from dpt_ray.data import stores
from dpt_ray.data.images import ImageForm
from dpt_ray.data.index import DatasetIndex, read_index
from dpt_ray.data.networks import NETWORK_FILE, Classifier
from dpt_ray.data.sidecars import KEY, decode_sidecar, encode_sidecar, read_sidecar, sidecar_name
from dpt_ray.data.skipped import Skipped, count_images, read_skipped, skip_facts
from dpt_ray.data.source import LABEL, decode_samples, read_shard_samples
from dpt_ray.distributed.cluster import inference_resources
from dpt_ray.distributed.inference import UnitWorker, UnusableUnitError, run_units
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.pipeline.artifacts import Artifact
from dpt_ray.pipeline.graph import Step, Workshop
from dpt_ray.pipeline.steps.data import image_form, summarise_skipped

CONFIDENCE, FEATURES = "confidence", "features"
SIDECARS = "predictions"


class Predictions(Step):
    """The class that a classifier predicts for every image of a set: one sidecar a shard.

    Columns: `label` int64, the most probable class; `confidence` float32, its probability; and
    with `features`, the classifier's features, float32 (N, D). The label is the hard argmax of every
    image, without a confidence filter, labelled images included (reference: the paper's S1).

    Args:
        title: what to call it.
        data: the form of images.
        classifier: a `TrainClassifier`.
        images: any step whose artifact is an indexed shard set.
        features: also keep the features.
    """

    name = "predictions"

    def __init__(
        self,
        title: str,
        data: DataConfig,
        classifier: Step,
        images: Step,
        *,
        features: bool = False,
    ):
        self._form = image_form(data)
        settings = {"image_size": data.image_size, "channels": data.channels, "features": features}
        super().__init__(title, settings, {"classifier": classifier, "images": images})

    def plan(self) -> str:
        return "labelling every image"

    def make(self, workshop: Workshop) -> dict[str, Any]:
        index = read_index(workshop.parents["images"].url)
        resources = inference_resources(workshop.cluster)
        files = run_units(
            _PredictionWorker,
            {
                "index": index,
                "classifier": workshop.parents["classifier"].file(NETWORK_FILE),
                "folder": workshop.file(SIDECARS),
                "batch": workshop.cluster.inference_batch,
                "device": "cuda" if resources.gpus else "cpu",
                "form": self._form,
                "features": self.settings["features"],
            },
            list(range(len(index.shards))),
            resources=resources,
            progress=workshop.progress(index.num_images),
            policy=workshop.policy,
        )
        skipped = [entry for file in files for entry in read_skipped(file)]
        images = index.num_images - count_images(skipped)
        counts = np.sum([file.pop("predicted", [0] * index.num_classes) for file in files], axis=0).tolist()
        confidence = sum(file.pop("confidence_sum", 0.0) for file in files) / max(1, images)
        return {
            **skip_facts(index.num_images, skipped),
            "images": images,
            "predicted_per_class": counts,
            "mean_confidence": confidence,
            "files": files,
        }

    def summary(self, facts: Any) -> str:
        text = f"{facts['images']:,} images, mean confidence {facts['mean_confidence']:.3f}"
        return text + summarise_skipped(facts)


class _PredictionWorker(UnitWorker):
    def __init__(
        self,
        index: DatasetIndex,
        classifier: str,
        folder: str,
        device: str,
        form: ImageForm,
        batch: int,
        features: bool,
    ):
        self._index, self._folder, self._form = index, folder, form
        self._batch, self._features = batch, features
        self._classifier_url, self._device = classifier, device
        self._classifier: Classifier | None = None

    def output_url(self, unit: int) -> str:
        return stores.join(self._folder, sidecar_name(unit))

    def make(self, unit: int) -> bytes:
        if self._classifier is None:
            self._classifier = Classifier(self._classifier_url, self._device)
        shard = self._index.shards[unit]
        try:
            samples = read_shard_samples(shard)
        except StoreFailureError:
            raise
        except UserError as error:
            raise UnusableUnitError([Skipped(shard.url, None, error.what, shard.samples)]) from None
        probabilities, features = [], []
        for start in range(0, len(samples), self._batch):
            images = decode_samples(samples[start : start + self._batch], self._form, shard.url)
            outputs = self._classifier(torch.from_numpy(images))
            probabilities.append(outputs[0].numpy())
            features.append(outputs[1].numpy())
        probability = np.concatenate(probabilities)
        columns = {LABEL: probability.argmax(1).astype(np.int64), CONFIDENCE: probability.max(1)}
        if self._features:
            columns[FEATURES] = np.concatenate(features)
        return encode_sidecar([sample.key for sample in samples], columns)

    def facts(self, unit: int, content: bytes) -> dict[str, Any]:
        columns = decode_sidecar(content, self.output_url(unit), [LABEL, CONFIDENCE])
        return {
            "images": len(columns[KEY]),
            "predicted": np.bincount(columns[LABEL], minlength=self._index.num_classes).tolist(),
            "confidence_sum": float(columns[CONFIDENCE].sum(dtype=np.float64)),
        }


def read_predictions(artifact: Artifact, *columns: str) -> Iterator[dict[str, Any] | None]:
    """Yield the sidecars of a `Predictions` artifact in the order of its shards; None for one that could not be read.

    Such a shard is listed in the artifact's facts.
    """
    for number, file in enumerate(artifact.facts["files"]):
        made = "sha256" in file
        yield read_sidecar(artifact.file(SIDECARS, sidecar_name(number)), list(columns)) if made else None
