"""Pictures of a run report: real beside pseudo images, nearest neighbours, and images that look alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dpt_ray.config.schema import RunConfig
from dpt_ray.data.images.decoding import ImageForm, decode_image
from dpt_ray.data.loading.shard_samples import read_shard_samples
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.sidecars import KEY
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.dataset import class_names, image_form
from dpt_ray.pipeline.artifacts.evaluation import read_true_labels
from dpt_ray.pipeline.artifacts.features import FEATURES
from dpt_ray.pipeline.artifacts.overlap import PAIRS_FILE, ImagePair, OverlapFacts, tell_exact, tell_near
from dpt_ray.pipeline.artifacts.predictions import read_predictions
from dpt_ray.pipeline.artifacts.pseudo_images import describe_guidance, first_pseudo_images
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.dpt import DualPseudoTraining
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.held_out_images import MOST_SHARDS, read_pictures
from dpt_ray.report.image_content import LookAlike, Neighbours, Overlap, SampleGrid

GRID_CLASSES, GRID_IMAGES = 20, 10
NEIGHBOURS, NEIGHBOUR_CLASSES = 5, 10
MOST_COMPARED = 200_000
"""Training images among which neighbours are searched: so many features of 2,048 numbers take 1.6 GB to read."""
PICTURED_PAIRS = 10
NO_IMAGE = 128
"""Grey level of a place without an image."""

Artifacts = Mapping[Step, Artifact]


def sample_grid(config: RunConfig, artifact: Artifact, train_data: Artifact) -> SampleGrid:
    """Read the first pseudo images of every class (of some classes, where there are very many)."""
    index = read_index(artifact.url)
    per_class = min(GRID_IMAGES, config.sampling.per_class)
    form = image_form(config.data)
    kept = shown_classes(index.num_classes, GRID_CLASSES)
    images = np.zeros((len(kept), per_class, *form.shape), np.uint8)
    for image in first_pseudo_images(index, form, per_class, kept):
        images[kept.index(image.label), image.position] = image.pixels
    sampling = config.sampling
    caption = f"{sampling.sampler}, {sampling.steps} steps, {describe_guidance(sampling)}"
    names = class_names(config.data, index.num_classes, read_index(train_data.url).class_names)
    return SampleGrid(images, [names[label] for label in kept], caption)


def shown_classes(num_classes: int, most: int) -> list[int]:
    """Return at most `most` classes, evenly spaced in their list."""
    return [int(label) for label in np.linspace(0, num_classes - 1, min(most, num_classes))]


def real_grid(config: RunConfig, data: Artifact, train_data: Artifact) -> SampleGrid | None:
    """Read the first held-out images of the classes that `sample_grid` shows; None if one cannot be read any more.

    A class with fewer images than another has grey places. The images are those of the first `MOST_SHARDS` shards.
    """
    index, train = read_index(data.url), read_index(train_data.url)
    keys, labels = read_true_labels(index, MOST_SHARDS)
    kept = shown_classes(train.num_classes, GRID_CLASSES)
    ends = np.cumsum([len(shard) for shard in keys])
    places, cells = [], []
    for line, label in enumerate(kept):
        for column, row in enumerate(torch.nonzero(labels == label).flatten()[:GRID_IMAGES].tolist()):
            shard = int(np.searchsorted(ends, row, "right"))
            places.append((shard, keys[shard][row - (ends[shard] - len(keys[shard]))]))
            cells.append((line, column))
    form = image_form(config.data)
    pictures = read_pictures(index, places, form)
    if not pictures:
        return None
    images = np.full((len(kept), max(column for _, column in cells) + 1, *form.shape), NO_IMAGE, np.uint8)
    for cell, picture in zip(cells, pictures, strict=True):
        images[cell] = picture
    names = class_names(config.data, train.num_classes, train.class_names)
    return SampleGrid(images, [names[label] for label in kept])


def nearest_images(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts) -> Neighbours | None:
    """Find the training images nearest to the first pseudo image of some classes, by the features of stage 1.

    Returns:
        None without features, or if an image cannot be read any more.
    """
    if run.real_features is None:
        return None
    pseudo_index, index = read_index(artifacts[run.pseudo_images].url), read_index(artifacts[run.train_data].url)
    kept = shown_classes(index.num_classes, NEIGHBOUR_CLASSES)
    queries = _first_features(artifacts[run.pseudo_image_predictions], kept)
    if queries is None:
        return None
    nearest = find_nearest(queries, artifacts[run.real_features], NEIGHBOURS)
    form = image_form(config.data)
    pseudo = {image.label: image.pixels for image in first_pseudo_images(pseudo_index, form, 1, kept)}
    real = read_pictures(index, [place for row in nearest.places for place in row], form)
    if not real or len(pseudo) < len(kept):
        return None
    shape = (len(kept), -1, *form.shape)
    images = np.concatenate([np.stack([pseudo[label] for label in kept])[:, None], np.stack(real).reshape(shape)], 1)
    names = class_names(config.data, index.num_classes, index.class_names)
    return Neighbours(SampleGrid(images, [names[label] for label in kept]), nearest.compared, index.num_images)


def _first_features(predictions: Artifact, classes: Sequence[int]) -> np.ndarray | None:
    """Return the features of the first pseudo image of classes, which are its first images; None if they are gone."""
    found: list[np.ndarray] = []
    for sidecar in read_predictions(predictions, FEATURES):
        if sidecar is None:
            return None
        found += list(sidecar[FEATURES])
        if len(found) > max(classes):
            return np.stack([found[label] for label in classes])
    return None


@dataclass(frozen=True)
class Nearest:
    """Result of a search for neighbours.

    Attributes:
        places: for each query the shard's number and the key of its neighbours, the nearest first.
        compared: images among which they were searched.
    """

    places: list[list[tuple[int, str]]]
    compared: int


def find_nearest(queries: np.ndarray, features: Artifact, most: int) -> Nearest:
    """Search the nearest images by Euclidean distance of features, among the first `MOST_COMPARED`.

    Args:
        queries: features, float32 (Q, D).
        features: predictions with features.
        most: number of neighbours of each query.
    """
    best: list[list[tuple[float, int, str]]] = [[] for _ in queries]
    compared = 0
    for shard, sidecar in enumerate(read_predictions(features, FEATURES)):
        if sidecar is None or compared >= MOST_COMPARED:
            continue
        values = np.asarray(sidecar[FEATURES])
        compared += len(values)
        for query, vector in enumerate(queries):
            row = np.linalg.norm(values - vector, axis=1)
            near = [(float(row[number]), shard, sidecar[KEY][number]) for number in np.argsort(row)[:most]]
            best[query] = sorted([*best[query], *near])[:most]
    return Nearest([[(shard, key) for _, shard, key in row] for row in best], compared)


def look_alikes(config: RunConfig, run: DualPseudoTraining, artifacts: Artifacts) -> Overlap | None:
    """Describe held-out images that look like training images; None where there are none."""
    if run.overlap is None:
        return None
    artifact = artifacts[run.overlap]
    facts = OverlapFacts.read(artifact)
    if not facts.first:
        return None
    test, train = (read_index(artifacts[data].url) for data in (run.test_data, run.train_data))
    pictured = [
        pair
        for found in facts.first[:PICTURED_PAIRS]
        if (pair := _read_pair(found, test, train, image_form(config.data))) is not None
    ]
    pictures = SampleGrid(np.stack(pictured, axis=1), ["held-out", "training"]) if pictured else None
    pairs = tuple(LookAlike(pair.test.key, pair.train.key, pair.bits) for pair in facts.first)
    findings = f"{tell_exact(facts)}; {tell_near(facts)}."
    return Overlap(findings[0].upper() + findings[1:], pairs, artifact.file(PAIRS_FILE), pictures)


def _read_pair(pair: ImagePair, test: DatasetIndex, train: DatasetIndex, form: ImageForm) -> np.ndarray | None:
    """Return both images of a pair, uint8 (2, C, H, W); None if one cannot be read any more."""
    images = []
    for index, place in ((test, pair.test), (train, pair.train)):
        shard = index.shards[place.number]
        try:
            sample = read_shard_samples(shard)[place.row]
            images.append(decode_image(sample.image_bytes(shard.url), shard.form(form), shard.url))
        except UserError:
            return None
    return np.stack(images)
