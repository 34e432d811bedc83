"""The sidecars of a part of a data set, and its labelled images, made by groups of shards."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from dpt_ray.data.images.perceptual_hash import PERCEPTUAL_HASH, PIXEL_HASH
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.label_choice import Candidates, LabelledImage
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, label_sidecars
from dpt_ray.data.shards.sidecars import KEY, encode_sidecar, read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.artifacts.labelled import read_labelled
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.draw_candidates import decode_candidates, encode_candidates
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

Part = Literal["training", "validation"]


def kept_rows(samples: int, chosen: np.ndarray | None, part: Part) -> np.ndarray:
    """Return the rows of a shard that belong to a part, ascending, int64 (M,).

    Args:
        samples: images of the shard.
        chosen: rows that are held out; None for none.
        part: `validation` is that of the rows that are held out.
    """
    is_chosen = np.zeros(samples, bool)
    if chosen is not None:
        is_chosen[chosen[chosen < samples]] = True
    return np.flatnonzero(is_chosen == (part == "validation"))


def divide_sidecars(
    context: StepContext, whole: DatasetIndex, chosen: Mapping[int, np.ndarray], part: Part, labels: str
) -> np.ndarray:
    """Write the sidecars of a part, under the names of those of the whole, and return its images of each class.

    Args:
        context: that of the step.
        whole: the data set.
        chosen: position of a shard -> rows that are held out, int64 (M,).
        part: the part.
        labels: URL of the folder for the sidecars.

    Returns:
        int64 (C,).
    """
    settings = {
        "sidecars": label_sidecars(whole),
        "part": part,
        "labels": labels,
        "num_classes": whole.num_classes,
    }
    counts = np.zeros(whole.num_classes, np.int64)
    groups = shard_groups([shard.samples for shard in whole.shards], chosen)
    for content in run_groups(_DividingWorker, settings, groups, context):
        counts += np.frombuffer(content, np.int64)
    return counts


class _DividingWorker(GroupWorker):
    """Its partial result is the images of each class, int64 (C,)."""

    def __init__(self, sidecars: SidecarUrls, part: Part, labels: str, num_classes: int, folder: str):
        super().__init__(folder)
        self._sidecars, self._part, self._labels, self._num_classes = sidecars, part, labels, num_classes

    def make(self, unit: Group) -> bytes:
        counts = np.zeros(self._num_classes, np.int64)
        for position, samples in zip(unit.positions, unit.counts.tolist(), strict=True):
            kept = kept_rows(samples, unit.rows.get(position), self._part)
            if len(kept):
                counts += self._write(position, kept)
        return counts.tobytes()

    def _write(self, position: int, kept: np.ndarray) -> np.ndarray:
        url = self._sidecars[position]
        assert url is not None
        sidecar = read_sidecar(url, [LABEL, PIXEL_HASH, PERCEPTUAL_HASH])
        columns = {name: sidecar[name][kept] for name in (LABEL, PIXEL_HASH, PERCEPTUAL_HASH)}
        content = encode_sidecar([sidecar[KEY][row] for row in kept], columns)
        stores.write_bytes(stores.join(self._labels, url.rpartition("/")[2]), content)
        labels = columns[LABEL]
        return np.bincount(labels[labels >= 0], minlength=self._num_classes)


def labelled_rest(context: StepContext, index: DatasetIndex, labelled: Artifact) -> list[LabelledImage]:
    """Return the given labelled images that a data set holds, with their places in it.

    Args:
        context: that of the step.
        index: the data set.
        labelled: a `LabelledSubset`, whose labels are used.
    """
    settings = {"sidecars": label_sidecars(index), "labelled": labelled.url}
    parts = run_groups(_LabelledWorker, settings, shard_groups([s.samples for s in index.shards]), context)
    found = Candidates.joined([decode_candidates(content) for content in parts])
    return found.images(np.arange(len(found.keys)))


class _LabelledWorker(GroupWorker):
    """Its partial result is the labelled images of its shards."""

    def __init__(self, sidecars: SidecarUrls, labelled: str, folder: str):
        super().__init__(folder)
        self._sidecars = sidecars
        self._labels = {image.key: image.label for image in read_labelled(Artifact(labelled, {}))}

    def make(self, unit: Group) -> bytes:
        found = []
        for position in unit.positions:
            url = self._sidecars[position]
            assert url is not None
            keys = read_sidecar(url, [])[KEY]
            rows = [row for row, key in enumerate(keys) if key in self._labels]
            chosen = [keys[row] for row in rows]
            labels = np.array([self._labels[key] for key in chosen], np.int32)
            shards, draws = np.full(len(rows), position), np.zeros(len(rows), np.int64)
            found.append(Candidates(shards, np.array(rows, np.int32), labels, draws, chosen))
        return encode_candidates(Candidates.joined(found))
