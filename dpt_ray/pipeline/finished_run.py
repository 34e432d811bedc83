"""What a notebook reads of a finished run: figures, networks, pseudo-labels, pseudo images and the report."""

import tempfile
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch

from dpt_ray.config.load import parse_dumped
from dpt_ray.config.schema import RunConfig
from dpt_ray.data.loading.source import CONFIDENCE, LABEL
from dpt_ray.data.shards.index import read_index
from dpt_ray.data.shards.sidecars import KEY
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError
from dpt_ray.export.loaded_classifier import LoadedClassifier, load_classifier
from dpt_ray.export.loaded_generator import LoadedGenerator, load_generator
from dpt_ray.pipeline.artifacts.dataset import class_names, image_form
from dpt_ray.pipeline.artifacts.evaluation import EvaluationMetrics, described_metrics, read_metrics
from dpt_ray.pipeline.artifacts.predictions import read_predictions
from dpt_ray.pipeline.artifacts.pseudo_images import first_pseudo_images
from dpt_ray.pipeline.artifacts.run import REPORT_FILE, SETTINGS_FILE, read_addresses
from dpt_ray.pipeline.artifacts.run_record import root_of
from dpt_ray.pipeline.artifacts.store import Artifact, ArtifactStore
from dpt_ray.pipeline.export_run import export_classifier, export_generator
from dpt_ray.tables import text_table

Loaded = TypeVar("Loaded", LoadedClassifier, LoadedGenerator)
Device = str | torch.device | int | None
Stage = Literal[1, 3]


class LabelledImages(NamedTuple):
    """Images and the class of each.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: class ids, int64 (N,).
    """

    images: torch.Tensor
    labels: torch.Tensor


class Run:
    """A finished run.

    Args:
        url: the run's folder.

    Attributes:
        url: the run's folder.

    Raises:
        UserError: the folder holds no finished run, or one that this version does not read.
    """

    def __init__(self, url: str):
        self.url = stores.absolute_url(url).rstrip("/")
        self._addresses = read_addresses(self.url)
        self._store = ArtifactStore(root_of(self.url))

    def __repr__(self) -> str:
        return f"<Run {self.url}>"

    def __str__(self) -> str:
        rows = [(metric.name, f"{metric.value:.4g}", metric.note) for metric in described_metrics(self.metrics)]
        return f"{text_table(rows)}\n\nreport: {self.report}"

    @cached_property
    def settings(self) -> RunConfig:
        """The settings of the run.

        Raises:
            UserError: this version cannot read them.
        """
        place = stores.join(self.url, SETTINGS_FILE)
        return parse_dumped(stores.read_bytes(place), place)

    @property
    def name(self) -> str:
        """The setting `name`."""
        return self.settings.name

    @property
    def report(self) -> str:
        """URL of the report, an HTML page."""
        return stores.join(self.url, REPORT_FILE)

    @cached_property
    def metrics(self) -> EvaluationMetrics:
        """The figures of the evaluation, with those of each class.

        Raises:
            UserError: the evaluation is gone or damaged.
        """
        return read_metrics(self._artifact("evaluation"))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, by id."""
        index = read_index(self._artifact("train_data").url)
        return class_names(self.settings.data, index.num_classes, index.class_names)

    def classifier(self, stage: Stage = 3, device: Device = None) -> LoadedClassifier:
        """Load a classifier of the run, as `dpt_ray.load_classifier` loads it from an export.

        Args:
            stage: 1 for the classifier that gave the pseudo-labels, 3 for the one that was trained on them.
            device: the device to compute on; by default a GPU if there is one, otherwise the CPU.

        Raises:
            TypeError: `device` is of another type.
            UserError: there is no such stage or device, or the classifier is gone.
        """
        if stage not in (1, 3):
            raise UserError(f"a run has no classifier of stage {stage!r}", fix="stage is 1 or 3")
        return _loaded(lambda folder: load_classifier(export_classifier(self.url, folder, stage=stage), device))

    def generator(self, device: Device = None) -> LoadedGenerator:
        """Load the generator of the run, as `dpt_ray.load_generator` loads it from an export.

        Args:
            device: the device to compute on; by default a GPU if there is one, otherwise the CPU.

        Raises:
            TypeError: `device` is of another type.
            UserError: there is no such device, or the generator is gone.
        """
        return _loaded(lambda folder: load_generator(export_generator(self.url, folder), device))

    def pseudo_labels(self) -> pa.Table:
        """Return the pseudo-label of every training image, in the order of the shards.

        Returns:
            Columns: `key` string, the image's key; `label` int64, the class id; `class`, its name, as a dictionary
            array; `confidence` float32. Images of shards that could not be read have no row.

        Raises:
            UserError: the pseudo-labels are gone or damaged.
        """
        names = pa.array(self.classes, pa.string())
        parts = []
        for sidecar in read_predictions(self._artifact("pseudo_labels"), LABEL, CONFIDENCE):
            if sidecar is not None:
                labels = pa.array(sidecar[LABEL], pa.int64())
                named = pa.DictionaryArray.from_arrays(labels.cast(pa.int32()), names)
                confidence = pa.array(sidecar[CONFIDENCE], pa.float32())
                columns = [pa.array(sidecar[KEY], pa.string()), labels, named, confidence]
                parts.append(pa.record_batch(columns, schema=_PSEUDO_LABELS))
        return pa.Table.from_batches(parts, _PSEUDO_LABELS)

    def pseudo_images(self, per_class: int | None = 10) -> LabelledImages:
        """Return the first pseudo images of every class; classes take turns.

        Args:
            per_class: images of each class; None for all, which have to fit in memory.

        Raises:
            UserError: `per_class` is below 0, or the pseudo images are gone or damaged.
        """
        if per_class is not None and per_class < 0:
            raise UserError(f"per_class = {per_class} is not allowed", fix="give 0 or more, or None for all")
        index = read_index(self._artifact("pseudo_images").url)
        form = image_form(self.settings.data)
        found = list(first_pseudo_images(index, form, per_class))
        images = np.stack([image.pixels for image in found]) if found else np.empty((0, *form.shape), np.uint8)
        labels = torch.tensor([image.label for image in found], dtype=torch.int64)
        return LabelledImages(torch.from_numpy(images), labels)

    def _artifact(self, id: str) -> Artifact:
        step, _, address = self._addresses.get(id, "").partition("/")
        artifact = self._store.find(step, address) if address else None
        if artifact is None:
            raise UserError(f"the run's {id} is gone", where=self.url, fix="dpt run makes it again")
        return artifact


_PSEUDO_LABELS = pa.schema(
    [
        (KEY, pa.string()),
        (LABEL, pa.int64()),
        ("class", pa.dictionary(pa.int32(), pa.string())),
        (CONFIDENCE, pa.float32()),
    ]
)


def _loaded(load: Callable[[str], Loaded]) -> Loaded:
    """Load a network from an export in a temporary folder, which stays as long as the network.

    A network may read files of its export when they are needed first, such as the weaker model of autoguidance.
    """
    folder = tempfile.TemporaryDirectory(prefix="dpt-export-")
    try:
        network = load(stores.join(folder.name, "model"))
    except BaseException:
        folder.cleanup()
        raise
    weakref.finalize(network, folder.cleanup)
    return network
