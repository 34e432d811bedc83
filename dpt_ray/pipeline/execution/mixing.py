"""How stage 3 joins pseudo images to the labelled and unlabelled ones (`stage3.mixing`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from dpt_ray.config.classifier_section import ClassifierConfig
from dpt_ray.config.data_section import DataConfig
from dpt_ray.core.training.from_settings import uses_unlabelled
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.source import ImageSource, SourceShard, sidecar_labelled_source, unlabelled_source
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.integers import Integers
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.dataset import image_form
from dpt_ray.pipeline.artifacts.labelled import labelled_source
from dpt_ray.pipeline.artifacts.predictions import SIDECARS
from dpt_ray.pipeline.artifacts.pseudo_images import RequestedClasses, requested_labels
from dpt_ray.pipeline.artifacts.trained_network import MixedFacts
from dpt_ray.pipeline.execution.agreeing_images import agreeing_images
from dpt_ray.pipeline.execution.step import StepContext

PSEUDO_IMAGES, PSEUDO_PREDICTIONS, PSEUDO_LABELS = "pseudo_images", "pseudo_predictions", "pseudo_labels"
"""Roles of parents: the pseudo images, the predictions of stage 1 for them, and the pseudo-labels of real images."""


@dataclass(frozen=True)
class MixedSources:
    """The training data of a classifier.

    Attributes:
        sources: name -> images and their number in a step.
        num_real: images in the source "labelled" that have true labels; those that are added come after them. None if
            none are.
        facts: facts of the pseudo images.
    """

    sources: dict[str, tuple[ImageSource, int]]
    num_real: int | None
    facts: MixedFacts


def mix(context: StepContext, config: ClassifierConfig, data: DataConfig, index: DatasetIndex) -> MixedSources:
    """Gather the sources of a training from the context's parents.

    Raises:
        UserError: no pseudo image is left.
    """
    form = image_form(data)
    labelled = labelled_source(context.parents["labelled"], index, form)
    unlabelled = unlabelled_source(index, form)
    sources = {"labelled": (labelled, config.labelled_batch)}
    num_real: int | None = None
    facts = MixedFacts()
    if {PSEUDO_IMAGES, PSEUDO_LABELS} & context.parents.keys():
        if PSEUDO_LABELS in context.parents:
            pseudo = sidecar_labelled_source(index, context.parents[PSEUDO_LABELS].file(SIDECARS), form)
        else:
            pseudo, facts = _pseudo_images(context, config, form, index.num_classes)
        if config.mixing.real_share is None:
            num_real = labelled.num_images
            sources["labelled"] = (labelled + pseudo, config.labelled_batch)
        else:
            real_batch, pseudo_batch = config.mixing.split(config.labelled_batch, data.lanes)
            sources = {"labelled": (labelled, real_batch), "pseudo": (pseudo, pseudo_batch)}
        if config.mixing.unlabelled:
            unlabelled = unlabelled + ImageSource(tuple(SourceShard(s.info, s.rows) for s in pseudo.shards), form)
    if uses_unlabelled(config):
        sources["unlabelled"] = (unlabelled, config.unlabelled_batch)
    return MixedSources(sources, num_real, facts)


def _pseudo_images(
    context: StepContext, config: ClassifierConfig, form: ImageForm, num_classes: int
) -> tuple[ImageSource, MixedFacts]:
    """Return the pseudo images that are used, labelled with the classes that were requested from the generator."""
    index = read_index(context.parents[PSEUDO_IMAGES].url)
    used: Iterable[np.ndarray | None] = repeat(None, len(index.shards))
    if config.mixing.only_agreeing:
        predictions = context.parents[PSEUDO_PREDICTIONS]
        used = agreeing_images(context, index, predictions, config.mixing.least_confidence)
    shards, first = [], 0
    kept = np.zeros(num_classes, np.int64)
    for info, labels, agrees in zip(index.shards, requested_labels(index), used, strict=True):
        rows = np.arange(len(labels)) if agrees is None else np.flatnonzero(agrees)
        if len(rows):
            used_rows = Integers(rows)
            shards.append(SourceShard(info, used_rows, RequestedClasses(first, used_rows, num_classes)))
            kept += np.bincount(labels[rows], minlength=num_classes)
        first += len(labels)
    if not shards:
        raise UserError(
            "stage 1 sees another class than the requested one in every pseudo image, so none is left",
            where="stage3.mixing.only_agreeing",
            fix="set it to false, lower least_confidence, or train the generator longer",
        )
    source = ImageSource(tuple(shards), form)
    return source, MixedFacts(pseudo_images=index.num_images, pseudo_images_used_per_class=tuple(kept.tolist()))
