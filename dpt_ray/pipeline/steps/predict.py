"""Batch inference with a classifier: pseudo-labels of stage 1, and predictions for evaluation."""

from typing import Any

from dpt_ray.config.schema import AugmentationConfig, DataConfig, PseudoLabelsConfig
from dpt_ray.core.row_random import derive_seed
from dpt_ray.data.shards.index import read_index
from dpt_ray.distributed.cluster import inference_resources
from dpt_ray.distributed.inference import run_units
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.features import features_urls
from dpt_ray.pipeline.artifacts.predictions import (
    SIDECARS,
    PredictedShard,
    PredictionsFacts,
    summarise_predictions,
)
from dpt_ray.pipeline.artifacts.step_facts import summarise_skipped
from dpt_ray.pipeline.execution.prediction_worker import PredictionWorker, Views
from dpt_ray.pipeline.execution.step import Step, StepContext


class Predictions(Step[PredictionsFacts]):
    """The class that a classifier predicts for every image of a set: one sidecar a shard.

    Columns: `label` int64, the most probable class; `confidence` float32, its probability; with `features`, the
    classifier's features, float32 (N, D); with `details`, `top_classes` int32 and `top_probabilities` float32, (N, k)
    from the most probable down, and if labels are to be balanced `probabilities` float16 (N, C) and, with views,
    `averaged_probabilities`, alike.
    The label is the hard argmax of every image, without a confidence filter, labelled images included (reference: the
    paper's S1).

    Args:
        title: what to call it.
        data: the form of images.
        classifier: a `TrainClassifier`, or a `FitProbe`.
        images: any step whose artifact is an indexed shard set.
        features: also keep the features.
        details: what else to keep, and how confidence is taken; for pseudo-labels.
        augmentation: of the views that confidence is averaged over.
        encoded: features of `images`, of which a `FitProbe` predicts.
    """

    name = "predictions"
    version = 2
    facts_type = PredictionsFacts

    def __init__(
        self,
        title: str,
        data: DataConfig,
        classifier: Step,
        images: Step,
        *,
        features: bool = False,
        details: PseudoLabelsConfig | None = None,
        augmentation: AugmentationConfig | None = None,
        encoded: Step | None = None,
    ):
        self._form, self._details = image_form(data), details
        self._views = _views(details, augmentation) if encoded is None else None
        settings: dict[str, Any] = {"image_size": data.image_size, "channels": data.channels, "features": features}
        if details is not None:
            settings |= {"top_k": details.top_k, "probabilities": details.assignment == "balanced"}
        if self._views is not None:
            settings["views"] = [self._views.count, self._views.flip, self._views.crop_padding]
            if settings["probabilities"]:
                settings["averaged_probabilities"] = True
        parents: dict[str, Step] = {"classifier": classifier, "images": images}
        if encoded is not None:
            parents["encoded"] = encoded
        super().__init__(title, settings, parents)

    def plan(self) -> str:
        return "labelling every image"

    def make(self, context: StepContext) -> PredictionsFacts:
        index = read_index(context.parents["images"].url)
        resources = inference_resources(context.cluster)
        encoded = context.parents.get("encoded")
        files = run_units(
            PredictionWorker,
            {
                "index": index,
                "classifier": context.parents["classifier"].file(NETWORK_FILE),
                "encoded": None if encoded is None else features_urls(encoded),
                "folder": context.file(SIDECARS),
                "batch": context.cluster.inference_batch,
                "device": resources.device,
                "form": self._form,
                "features": self.settings["features"],
                "top_k": self.settings.get("top_k", 0),
                "probabilities": self.settings.get("probabilities", False),
                "views": self._views,
            },
            list(range(len(index.shards))),
            resources=resources,
            progress=context.progress(index.num_images),
            policy=context.policy,
        )
        shards = [PredictedShard.from_json(file) for file in files]
        return summarise_predictions(shards, index.num_images, index.num_classes)

    def summary(self, facts: PredictionsFacts) -> str:
        text = f"{facts.images:,} images, mean confidence {facts.mean_confidence:.3f}"
        return text + summarise_skipped(facts)


def _views(details: PseudoLabelsConfig | None, augmentation: AugmentationConfig | None) -> Views | None:
    if details is None or augmentation is None or details.views == 0:
        return None
    return Views(details.views, augmentation.flip, augmentation.crop_padding, derive_seed("pseudo-label views"))
