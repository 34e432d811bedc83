"""`dpt suggest-labels`: which images to label, as a page with pictures and a table to fill in."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor

from dpt_ray.config.load import check_overrides
from dpt_ray.config.schema import RunConfig
from dpt_ray.core.probe.coverage import NEIGHBOURS, coverage_points, typical_images, uncertain_images
from dpt_ray.core.probe.neighbour_graph import nearest_neighbours, normalised_graph
from dpt_ray.core.probe.normalisation import normalise_rows
from dpt_ray.core.probe.propagation import UNKNOWN, class_probabilities, propagate, with_class_shares
from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.shards.index import DatasetIndex, read_index
from dpt_ray.data.shards.label_choice import LabelledImage
from dpt_ray.data.shards.label_table import FILE, LABEL
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.shards.skipped import skip_policy
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.networks.pretrained.encoders import located
from dpt_ray.pipeline.artifacts.dataset import class_names
from dpt_ray.pipeline.artifacts.features import features_urls, read_features
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.classifier_steps import encode
from dpt_ray.pipeline.execution.step import Step
from dpt_ray.pipeline.graph import make_all
from dpt_ray.pipeline.held_out_images import read_pictures
from dpt_ray.pipeline.inputs import Inputs
from dpt_ray.pipeline.jobs import DEFAULT, say, say_choices
from dpt_ray.pipeline.run_settings import load_run
from dpt_ray.pipeline.splits import test_split
from dpt_ray.pipeline.steps.train_encoder import TrainEncoder
from dpt_ray.report.suggested_page import SuggestedImage, SuggestedLabels, render_suggested
from dpt_ray.text import csv_cell

TABLE_FILE, PAGE_FILE = "labels.csv", "labels.html"
_PICTURE = 128
"""Height and width in pixels of a picture on the page."""
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
        uncertain: how many of them are those of which the classes are least certain, given the labels of `labels.file`.
        output: folder for both files.

    Raises:
        UserError: the settings or the data are wrong, the folder holds a table, or `count` or `uncertain` does not fit.
    """
    check_overrides(overrides)
    inputs = Inputs()
    settings = load_run(file, [] if file else [f"preset={DEFAULT}"], overrides, inputs=inputs)
    config, table = settings.config, stores.join(output, TABLE_FILE)
    say_choices(settings.choices)
    _check(config, count, uncertain, table)
    split, probe = test_split(config, inputs), located(config.stage1.probe)
    own = TrainEncoder(config.stage0, config.data, config.seed, split.train_data) if probe.own_encoder else None
    encoded = encode(probe, config.data, split.train_data, inputs, own)
    targets: list[Step] = [encoded, split.labelled] if config.labels.file else [encoded]
    store = ArtifactStore(config.root)
    stores.check_writable(store.root)
    made = make_all(targets, store, config.cluster, say, skip_policy(config.data))
    images = _read(made[encoded])
    index = read_index(made[split.train_data].url)
    given = read_labelled(made[split.labelled]) if config.labels.file else []
    chosen = _choose(images, given, index.num_classes, count, uncertain)
    names = class_names(config.data, index.num_classes, index.class_names)
    _write(config, index, images, given, chosen, names, output)
    return (
        f"{len(chosen):,} of {len(images.places):,} images to label: {stores.join(output, PAGE_FILE)}\n"
        f"fill in the column '{LABEL}' of {table}, then set labels.file={table}"
    )


def _check(config: RunConfig, count: int, uncertain: int, table: str) -> None:
    if stores.exists(table):
        raise UserError("is there already, and may hold labels", where=table, fix="give another --output")
    if uncertain > count:
        raise UserError(f"--uncertain must not be above --count: {uncertain} > {count}")
    if uncertain and config.labels.file is None:
        raise UserError("--uncertain needs labels to be uncertain with", fix="set labels.file to the labels so far")


def _read(encoded: Artifact) -> _Images:
    urls = [(shard, url) for shard, url in enumerate(features_urls(encoded)) if url is not None]
    places = [(shard, key) for shard, url in urls for key in read_sidecar(url, [])[KEY]]
    points = coverage_points(
        lambda: (normalise_rows(torch.from_numpy(np.array(read_features(url)))) for _, url in urls)
    )
    return _Images(places, points)


def _choose(
    images: _Images, given: Sequence[LabelledImage], num_classes: int, count: int, uncertain: int
) -> list[tuple[int, str]]:
    """Return numbers of images with the reason of each: first those that cover, then those that are uncertain."""
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
        scores = with_class_shares(propagate(graph, labels, num_classes, _ALPHA), labels)
        unsure = uncertain_images(images.points, class_probabilities(scores), uncertain, [*known, *typical])
        chosen += [(row, "between classes") for row in unsure.tolist()]
    return chosen


def _write(
    config: RunConfig,
    index: DatasetIndex,
    images: _Images,
    given: Sequence[LabelledImage],
    chosen: Sequence[tuple[int, str]],
    names: Sequence[str],
    output: str,
) -> None:
    """Write the page, then the table, whose presence says that both are whole."""
    places = [images.places[row] for row, _ in chosen]
    form = ImageForm(_PICTURE, config.data.channels, config.data.max_image_pixels)
    pictures = read_pictures(index, places, form)
    if pictures is None:
        raise UserError("a suggested image cannot be read any more", fix="start the command again")
    shown = [
        SuggestedImage(key, reason, picture)
        for (_, key), (_, reason), picture in zip(places, chosen, pictures, strict=True)
    ]
    page = SuggestedLabels(f"{len(shown):,} images to label", datetime.now(UTC).isoformat(), shown, names, TABLE_FILE)
    stores.write_bytes(stores.join(output, PAGE_FILE), render_suggested(page).encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((FILE, LABEL))
    writer.writerows((csv_cell(image.key), csv_cell(names[image.label])) for image in given)
    writer.writerows((csv_cell(key), "") for _, key in places)
    stores.write_bytes(stores.join(output, TABLE_FILE), text.getvalue().encode())
