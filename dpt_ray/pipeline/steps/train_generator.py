"""Stage 2: the class-conditional diffusion model, trained on pseudo-labels only."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np

from dpt_ray.config.data_section import DataConfig
from dpt_ray.config.generator_section import GeneratorConfig
from dpt_ray.core.diffusion.latent_moments import LatentDraw
from dpt_ray.core.label_mixtures import LabelMixtures
from dpt_ray.core.training.from_settings import generator_training
from dpt_ray.core.training.state import TrainState
from dpt_ray.core.weights import Description, LatentEntry
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.source import (
    CONFIDENCE,
    TOP_CLASSES,
    TOP_PROBABILITIES,
    ImageSource,
    sidecar_labelled_source,
    sidecar_latent_source,
    unlabelled_source,
)
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, sidecars_where
from dpt_ray.distributed.preview import preview_if_observed
from dpt_ray.json_values import JsonObject
from dpt_ray.networks.files import NETWORK_FILE
from dpt_ray.networks.generator import generator_file
from dpt_ray.networks.latent_decoder import latent_description
from dpt_ray.networks.pretrained.autoencoders import check_same, find_autoencoder
from dpt_ray.networks.start_weights import FoundWeights, check_autoencoder, start_from
from dpt_ray.pipeline.artifacts.conditioning_labels import ConditioningLabelsFacts
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.image_clusters import ImageClustersFacts
from dpt_ray.pipeline.artifacts.latents import LATENTS, made_form
from dpt_ray.pipeline.artifacts.predictions import SIDECARS
from dpt_ray.pipeline.artifacts.trained_network import TrainingFacts, describe_training, summarise_training
from dpt_ray.pipeline.execution.draw_preview import draw_preview
from dpt_ray.pipeline.execution.label_pairs import count_label_pairs
from dpt_ray.pipeline.execution.step import Step, StepContext
from dpt_ray.pipeline.execution.train_network import started, train_network, training_settings

_LABELS, _PRETRAINING, _CLUSTERS = "pseudo_labels", "pretraining", "clusters"


class TrainGenerator(Step[TrainingFacts]):
    """Train a generator on all real images with their pseudo-labels.

    Training reads no true label: labelled images also have the label that stage 1 predicts (reference: the paper's S1).
    `stage2.conditioning` can change that.

    Args:
        config: the section `stage2`.
        data: the section `data`.
        seed: the run's seed.
        train_data: indexes all real training images.
        pseudo_labels: makes the labels: `Predictions`, `BalancedLabels` or `ConditioningLabels`. None for a training
            in which every image has the null label, or its cluster.
        latents: encodes the images, for a generator of latents; None for a generator of pixels.
        start: the weights that training starts with; None for random ones.
        pretraining: trains the weights that this training starts with; None for `start`.
        clusters: makes the clusters that the pretraining is conditioned on, or this training, if it has no labels.

    Raises:
        UserError: in `make`: the latents were made with another autoencoder than the one in the settings.
    """

    name = "generator"
    stage_title: ClassVar = "stage 2 generator"
    version = 3
    facts_type = TrainingFacts

    def __init__(
        self,
        config: GeneratorConfig,
        data: DataConfig,
        seed: int,
        train_data: Step,
        pseudo_labels: Step | None,
        latents: Step | None = None,
        start: FoundWeights | None = None,
        pretraining: Step | None = None,
        clusters: Step | None = None,
    ):
        self.config, self._data, self._seed, self._start = config, data, seed, start
        parents = {
            "images": train_data, _LABELS: pseudo_labels, "latents": latents, _PRETRAINING: pretraining,
            _CLUSTERS: clusters,
        }  # fmt: skip
        super().__init__(self.stage_title, {role: parent for role, parent in parents.items() if parent is not None})

    @property
    def settings(self) -> JsonObject:
        settings = training_settings(self.config, self._data, self._seed)
        # Pretraining is in the address of the step that makes it; without it, addresses are those of versions that had
        # none.
        del settings["training"]["pretraining"]
        if self.config.conditioning.labels == "most_probable":
            # Addresses are those of versions that had no other labels.
            del settings["training"]["conditioning"]["labels"]
        if self.config.conditioning.clusters == 1:  # as of versions that had no clusters
            del settings["training"]["conditioning"]["clusters"]
        if "latents" in self.parents:
            # The other settings of latents are in the address of the step that encodes them.
            settings["latents"] = {"scale": self.config.latents.scale}
        if self._start is not None:
            settings["from"] = {"weights": self._start.checksum}
        return settings

    def plan(self) -> str:
        config = self.config
        on = tuple(
            words
            for words, holds in (
                ("latents", config.in_latents),
                ("no labels", _LABELS not in self.parents and _CLUSTERS not in self.parents),
                ("clusters", _LABELS not in self.parents and _CLUSTERS in self.parents),
                ("from pretrained weights", _PRETRAINING in self.parents),
            )
            if holds
        )
        return describe_training(config.images, config.model.name, config.process, *on)

    def summary(self, facts: TrainingFacts) -> str:
        return summarise_training(facts)

    def make(self, context: StepContext) -> TrainingFacts:
        config, data = self.config, self._data
        index = read_index(context.parents["images"].url)
        classes = self.num_classes(index)
        size, channels = config.canvas(data)
        form: Description = {
            "kind": "generator",
            "image_size": size,
            "channels": channels,
            "num_classes": classes,
        }
        labels = next(
            (context.parents[role].file(SIDECARS) for role in (_LABELS, _CLUSTERS) if role in self.parents), None
        )
        if config.conditioning.clusters > 1:
            form["cluster_images"] = self._cluster_images(context)
        if config.in_latents:
            source, draw, described = self._latents(context, index, labels)
            form["latents"] = described["latents"]
        else:
            source, draw = _image_source(index, labels, image_form(data), _columns(config)), None
        build = partial(
            generator_training,
            config,
            image_size=size,
            channels=channels,
            num_classes=classes,
            seed=self._seed,
            recompute_activations=context.cluster.recompute_activations,
            latents=draw,
        )
        return train_network(
            context,
            data,
            config,
            sources={"images": (source, config.batch)},
            build=self._started(context, index, build),
            finish=partial(generator_file, config, form),
            seed=self._seed,
            preview=preview_if_observed(partial(draw_preview, names=index.class_names))
            if _LABELS in self.parents
            else None,
        )

    def num_classes(self, index: DatasetIndex) -> int:
        """Return the number of classes that the network is conditioned on."""
        return index.num_classes

    def _cluster_images(self, context: StepContext) -> list[list[int]]:
        """Return the number of images of each cluster of each class."""
        images = ConditioningLabelsFacts.read(context.parents[_LABELS]).images_of_labels
        counts: list[list[int]] = np.reshape(images, (-1, self.config.conditioning.clusters)).tolist()
        return counts

    def _started(
        self, context: StepContext, index: DatasetIndex, build: Callable[[], TrainState]
    ) -> Callable[[], TrainState]:
        """Return a function that returns the training before its first step."""
        if _PRETRAINING not in context.parents:
            return started(context, self._start, self.num_classes(index), build)
        network = context.parents[_PRETRAINING].file(NETWORK_FILE)
        return partial(start_from, network, None, build, self._mixtures(context, index))

    def _mixtures(self, context: StepContext, index: DatasetIndex) -> LabelMixtures | None:
        """Return how many images have each pair of a label and a label of the pretraining; None for the same labels."""
        labels = self.num_classes(index) * self.config.conditioning.clusters
        if _CLUSTERS not in context.parents:
            return LabelMixtures.without_images((labels, index.num_classes)) if labels != index.num_classes else None

        def sidecars(role: str) -> SidecarUrls:
            files = self.parents[role].facts_type.read(context.parents[role]).files
            return sidecars_where(context.parents[role].file(SIDECARS), [file.is_made for file in files])

        clusters = ImageClustersFacts.read(context.parents[_CLUSTERS]).clusters
        counts = np.array([shard.samples for shard in index.shards])
        return count_label_pairs(context, counts, sidecars(_LABELS), sidecars(_CLUSTERS), (labels, clusters))

    def _latents(
        self, context: StepContext, index: DatasetIndex, labels: str | None
    ) -> tuple[ImageSource, LatentDraw, LatentEntry]:
        """Return the source of latents with labels, the draw from moments, and the description for the generator's
        file."""
        made = context.parents["latents"]
        form = made_form(made)
        found = find_autoencoder(self.config.latents.autoencoder or "")
        check_same(found, form.autoencoder, f"{made.url} holds latents")
        if self._start is not None:
            check_autoencoder(self._start, found)
        draw = LatentDraw(found.scale(self.config.latents), form.flips, form.has_variance)
        source = sidecar_latent_source(index, labels, made.file(LATENTS), form, _columns(self.config))
        return source, draw, latent_description(found, self.config.latents)


class PretrainGenerator(TrainGenerator):
    """Train a generator on images alone, for a `TrainGenerator` that starts with its weights.

    Every image has the null label, or its cluster. No setting or parent that concerns labels is in the address.

    Args:
        config: the section `stage2`.
        data: the section `data`.
        seed: the run's seed.
        train_data: indexes all real training images.
        latents: encodes the images, for a generator of latents; None for a generator of pixels.
        start: the weights that training starts with; None for random ones.
        clusters: makes the clusters; None for a training in which every image has the null label.
    """

    name = "pretraining"
    stage_title = "stage 2 pretraining"
    version = 1

    def __init__(
        self,
        config: GeneratorConfig,
        data: DataConfig,
        seed: int,
        train_data: Step,
        latents: Step | None = None,
        start: FoundWeights | None = None,
        clusters: Step | None = None,
    ):
        super().__init__(config.without_labels(), data, seed, train_data, None, latents, start, clusters=clusters)
        self._pretraining = config.pretraining

    def num_classes(self, index: DatasetIndex) -> int:
        """Return the number of clusters; without clusters that of classes, whose labels no image has."""
        return self._pretraining.clusters if _CLUSTERS in self.parents else index.num_classes


def _image_source(index: DatasetIndex, labels: str | None, form: ImageForm, columns: tuple[str, ...]) -> ImageSource:
    if labels is None:
        return unlabelled_source(index, form)
    return sidecar_labelled_source(index, labels, form, columns)


def _columns(config: GeneratorConfig) -> tuple[str, ...]:
    """Return the columns of the pseudo-labels that the training reads beside the labels."""
    confidence = (CONFIDENCE,) if config.conditioning.confidence else ()
    drawn = (TOP_CLASSES, TOP_PROBABILITIES) if config.conditioning.labels == "drawn" else ()
    return confidence + drawn
