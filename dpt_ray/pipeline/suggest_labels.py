"""`dpt suggest-labels`: which images to label, as a page with pictures and a table to fill in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpt_ray.config.load import check_overrides
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.probe.coverage import NEIGHBOURS, coverage_points, typical_images, uncertain_images
from dpt_ray.core.probe.neighbour_graph import nearest_neighbours, normalised_graph
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.probe.propagation import UNKNOWN, class_probabilities, propagate, with_equal_masses
from dpt_ray.data.importing.classes import given_classes
from dpt_ray.data.importing.image_files import FileSet
from dpt_ray.data.importing.labelled_files import FileList
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.label_table import LABEL
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.shards.skipped import skip_policy
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained.encoders import located
from dpt_ray.pipeline import photo_recipe
from dpt_ray.pipeline.artifacts.dataset import class_names
from dpt_ray.pipeline.artifacts.features import features_urls, read_features
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.classifier_steps import encode
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.jobs import DEFAULT, say, say_choices
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.pipeline.splits import describe_dataset, test_split
from dpt_ray.pipeline.steps.train_encoder import TrainEncoder
from dpt_ray.pipeline.suggested_files import PAGE_FILE, TABLE_FILE, Suggestion, write_suggestion

_UNKNOWN_CLASSES = 2
"""Classes of an index whose images have no label, where nothing tells their number. No label is read."""
_READ = ("data.", "cluster.", "stage0.", "stage1.")
"""Sections of the settings that the command reads."""
_ALPHA, _SHARPNESS = 0.99, 1.0
"""Settings of the propagation that finds uncertain images: the defaults of `probe.propagation`."""


@dataclass(frozen=True)
class _Images:
    """All training images: their places, keys and points."""

    places: list[tuple[int, str]]
    points: Tensor


def suggest_labels(file: str | None, overrides: Sequence[str], count: int, uncertain: int, output: str) -> str:
    """Write the table and the page; return the final text.

    Args:
        file: YAML settings; the embedded digits if None.
        overrides: settings `a.b=c`, stronger than the file.
        count: number of images to suggest.
        uncertain: how many of them are those of which the classes are least certain, given the labels so far.
        output: folder for both files.

    Raises:
        UserError: the settings or the data are wrong, the folder holds a table, or `count` or `uncertain` does not fit.
    """
    check_overrides(overrides)
    inputs = Inputs(without_classes=True)
    settings = load_run(file, [] if file else [f"preset={DEFAULT}"], overrides, inputs=inputs)
    config, table = settings.config, stores.join(output, TABLE_FILE)
    say_choices([choice for choice in settings.choices if choice.name.startswith(_READ)])
    files = _files(config, inputs)
    unlabelled = files is not None and not files.counts()
    _check(config, count, uncertain, table, unlabelled=unlabelled)
    train_data, labelled = _data_steps(config, inputs, unlabelled=unlabelled)
    probe = located(config.stage1.probe)
    own = TrainEncoder(config.stage0, config.data, config.seed, train_data) if probe.own_encoder else None
    encoded = encode(probe, config.data, train_data, inputs, own)
    store = ArtifactStore(config.root)
    stores.check_writable(store.root)
    targets: list[Step] = [encoded] if labelled is None else [encoded, labelled]
    made = make_all(targets, store, config.cluster, say, skip_policy(config.data))
    images = _read(made[encoded])
    index = read_index(made[train_data].url)
    given = [] if labelled is None else read_labelled(made[labelled])
    chosen = _choose(images, given, index.num_classes, count, uncertain)
    named = not unlabelled or given_classes(config.data) is not None
    names = class_names(config.data, index.num_classes, index.class_names) if named else ()
    setting = _setting(unlabelled)
    write_suggestion(Suggestion(index, files, given, chosen, names, setting), config.data, output)
    rest = " and data.unlisted=unlabelled" if unlabelled and config.preset != photo_recipe.PRESET else ""
    return (
        f"{len(chosen):,} of {len(images.places):,} images to label: {stores.join(output, PAGE_FILE)}\n"
        f"fill in the column '{LABEL}' of {table}, then set {setting}={table}{rest}"
    )


def _files(config: RunConfig, inputs: Inputs) -> FileList | None:
    """Return the training images with their labels as they are listed; None if the listing does not show them."""
    images = inputs.data("train", config.data).images
    return images.files if isinstance(images, FileSet) else None


def _setting(unlabelled: bool) -> str:
    """Return the setting that takes the table. Where the data hold no label, held-out images are drawn from it, too."""
    return "data.train_labels" if unlabelled else "labels.file"


def _data_steps(config: RunConfig, inputs: Inputs, *, unlabelled: bool) -> tuple[Step, Step | None]:
    """Return the steps that index the images to choose from, and that choose those labelled so far, if any are.

    Those are the images of `labels.file`, or all images with a label where all of them count.
    """
    if unlabelled and config.labels.file is None:
        data = config.data
        if data.num_classes is None and given_classes(data) is None:
            data = data.model_copy(update={"num_classes": _UNKNOWN_CLASSES})
        return describe_dataset("train", data, inputs), None
    split = test_split(config, inputs)
    counts = config.labels.file is not None or config.labels.fraction == 1
    return split.train_data, split.labelled if counts else None


def _check(config: RunConfig, count: int, uncertain: int, table: str, *, unlabelled: bool) -> None:
    if stores.exists(table):
        raise UserError("is there already, and may hold labels", where=table, fix="give another --output")
    if uncertain > count:
        raise UserError(f"--uncertain must not be above --count: {uncertain} > {count}")
    if uncertain and config.labels.file is None and (unlabelled or config.labels.fraction != 1):
        fix = f"set {_setting(unlabelled)} to the labels so far"
        raise UserError("--uncertain needs labels to be uncertain with", fix=fix)


def _read(encoded: Artifact) -> _Images:
    urls = [(shard, url) for shard, url in enumerate(features_urls(encoded)) if url is not None]
    places = [(shard, key) for shard, url in urls for key in read_sidecar(url, [])[KEY]]
    points = coverage_points(
        lambda: (normalise_rows(torch.from_numpy(np.array(read_features(url)))) for _, url in urls)
    )
    return _Images(places, points)


def _choose(
    images: _Images, given: Sequence[LabelledImage], num_classes: int, count: int, uncertain: int
) -> list[tuple[tuple[int, str], str]]:
    """Return images with the reason of each: first those that cover, then those that are uncertain."""
    row_of = {place: row for row, place in enumerate(images.places)}
    known = {row_of[image.shard, image.key]: image.label for image in given if (image.shard, image.key) in row_of}
    free = len(images.places) - len(known)
    if count > free:
        raise UserError(f"--count is {count:,}, and {free:,} images have no label", fix="lower --count")
    typical = typical_images(images.points, count - uncertain, [*known]).tolist() if count > uncertain else []
    chosen = [(row, "typical of its group") for row in typical]
    if uncertain:
        labels = np.full(len(images.places), UNKNOWN)
        labels[[*known]] = [*known.values()]
        graph = normalised_graph(nearest_neighbours(lambda: [images.points], len(labels), NEIGHBOURS), _SHARPNESS)
        scores = with_equal_masses(propagate(graph, labels, num_classes, _ALPHA))
        unsure = uncertain_images(images.points, class_probabilities(scores), uncertain, [*known, *typical])
        chosen += [(row, "between classes") for row in unsure.tolist()]
    return [(images.places[row], reason) for row, reason in chosen]
