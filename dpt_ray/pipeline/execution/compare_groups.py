"""Counts of predictions that are right, made by groups of shards on the cluster and merged by the driver."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load, save

from dpt_ray.core.metrics.class_counts import ClassCounts, count_predictions
from dpt_ray.data.loading.source import CONFIDENCE, LABEL, TOP_CLASSES
from dpt_ray.data.shards.sidecar_urls import SidecarUrls
from dpt_ray.data.shards.sidecars import KEY, SidecarColumns, read_sidecar
from dpt_ray.errors import UserError
from dpt_ray.pipeline.artifacts.pseudo_images import conditioning_labels
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

_PAIRED = "paired"


@dataclass(frozen=True, eq=False)
class ToCompare:
    """What is compared; it is sent to every worker.

    Attributes:
        predictions: sidecars of one classifier, or of two that are compared on the same images.
        num_classes: C.
        true: sidecars with the true labels; None for pseudo images, whose classes take turns.
        top: also read the most probable classes.
        confidence: also read the confidence.
        keep_pairs: keep which classes are taken for which.
    """

    predictions: tuple[SidecarUrls, ...]
    num_classes: int
    true: SidecarUrls | None = None
    top: bool = False
    confidence: bool = True
    keep_pairs: bool = False


@dataclass
class Comparison:
    """Predictions against true classes, on the images for which all of them are known.

    Attributes:
        counts: those of each classifier.
        mended: images that the first gets wrong and the second right.
        broken: images that the first gets right and the second wrong.
    """

    counts: list[ClassCounts]
    mended: int = 0
    broken: int = 0

    def merge(self, other: "Comparison") -> None:
        """Add the images of `other`."""
        for mine, theirs in zip(self.counts, other.counts, strict=True):
            mine.merge(theirs)
        self.mended, self.broken = self.mended + other.mended, self.broken + other.broken


def compare_predictions(
    context: StepContext,
    what: ToCompare,
    counts: Sequence[int],
    parts: str,
    left_out: Mapping[int, np.ndarray] | None = None,
) -> Comparison:
    """Compare predictions with true classes.

    Args:
        context: that of the step.
        what: the predictions and the true classes.
        counts: number of images of each shard, with those that could not be read.
        parts: name of the folder for partial results, one for each call of a step.
        left_out: position of a shard -> rows that are not counted, int64 (M,).

    Raises:
        UserError: a sidecar cannot be read, or does not list the images that it is compared with.
    """
    whole = Comparison([ClassCounts.empty(what.num_classes) for _ in what.predictions])
    groups = shard_groups(counts, left_out)
    for content in run_groups(_ComparingWorker, {"what": what}, groups, context, parts):
        whole.merge(_decoded(content, len(what.predictions)))
    return whole


def _decoded(content: bytes, classifiers: int) -> Comparison:
    arrays = load(content)
    names = ClassCounts.empty(1).arrays()
    counts = [ClassCounts(**{name: arrays[f"{n}.{name}"] for name in names}) for n in range(classifiers)]
    return Comparison(counts, *arrays[_PAIRED].tolist())


class _ComparingWorker(GroupWorker):
    def __init__(self, what: ToCompare, folder: str):
        super().__init__(folder)
        self._what = what

    def make(self, unit: Group) -> bytes:
        what = self._what
        parts = [found for position in unit.positions if (found := self._read(unit, position)) is not None]
        labels = np.concatenate([labels for labels, _ in parts] or [np.zeros(0, np.int64)])
        right: list[np.ndarray] = []
        arrays: dict[str, np.ndarray] = {}
        for number in range(len(what.predictions)):
            counts = ClassCounts.empty(what.num_classes)
            if parts:
                seen = {name: np.concatenate([columns[number][name] for _, columns in parts]) for name in self._columns}
                counts = count_predictions(
                    labels,
                    seen[LABEL],
                    what.num_classes,
                    confidence=seen.get(CONFIDENCE),
                    top_classes=seen.get(TOP_CLASSES),
                    keep_pairs=what.keep_pairs,
                )
            right.append(seen[LABEL] == labels if parts else np.zeros(0, bool))
            arrays |= {f"{number}.{name}": values for name, values in counts.arrays().items()}
        paired = [int((right[-1] & ~right[0]).sum()), int((right[0] & ~right[-1]).sum())]
        return save({**arrays, _PAIRED: np.array(paired)})

    @property
    def _columns(self) -> list[str]:
        what = self._what
        return [LABEL, *([CONFIDENCE] if what.confidence else []), *([TOP_CLASSES] if what.top else [])]

    def _read(self, unit: Group, position: int) -> tuple[np.ndarray, list[SidecarColumns]] | None:
        """Return true labels and predictions of the images of a shard for which all of them are known."""
        urls = [sidecars[position] for sidecars in self._what.predictions]
        if None in urls:
            return None
        seen = [read_sidecar(url, self._columns) for url in urls if url is not None]
        labels = self._true(
            unit, position, [columns[KEY] for columns in seen], [url for url in urls if url is not None]
        )
        known = labels >= 0
        if position in unit.rows:
            known[unit.rows[position]] = False
        return labels[known], [{name: columns[name][known] for name in self._columns} for columns in seen]

    def _true(self, unit: Group, position: int, keys: list[list[str]], urls: list[str]) -> np.ndarray:
        if self._what.true is None:
            return conditioning_labels(unit.images_of(position), self._what.num_classes)
        place = self._what.true[position]
        assert place is not None
        sidecar = read_sidecar(place, [LABEL])
        for listed, url in zip(keys, urls, strict=True):
            if listed != sidecar[KEY]:
                raise UserError("does not list the images that it is compared with", where=url, fix="remove it")
        return np.array(sidecar[LABEL], np.int64)
