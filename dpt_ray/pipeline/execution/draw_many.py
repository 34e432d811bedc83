"""A draw of a large part of a data set, such as a fifth, found by batch inference.

The draw is that of `draw_candidates.py`: the images of a class with the smallest hashes. If k of n images are wanted,
those below (k - 10 sqrt(k) - 20) / n of the hashes' range are among them, but for one draw in 10^20. Workers return a
bit for each image below, and hashes only of those between this limit and the upper one. So the driver holds a byte for
each image of the set.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load, save

from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.label_choice import Candidates, draw_smallest
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, label_sidecars
from dpt_ray.pipeline.execution.draw_candidates import LARGEST_DRAW, DrawWorker, Salt, draw_limits
from dpt_ray.pipeline.execution.shard_groups import Group, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

SORTED_TOGETHER = 2**21
"""Images that are sorted at a time, if no class has more. It bounds memory."""
_BITS, _SURE, _SURE_IMAGES, _NUMBER, _DRAW = "bits", "sure", "sure_images", "number", "draw"


def draw_many(
    context: StepContext,
    index: DatasetIndex,
    salt: Salt,
    counts: Sequence[int],
    available: Sequence[int],
    spared: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """Return which images are the `counts[c]` of each class c with the smallest hashes, bool (images of the set,).

    The arguments are those of `draw_candidates`.
    """
    lows, limits = draw_floors(counts, available), draw_limits(counts, available)
    wanted = np.asarray(counts, np.int64)
    while True:
        settings = {"sidecars": label_sidecars(index), "salt": salt, "lows": lows, "limits": limits}
        groups = shard_groups([shard.samples for shard in index.shards], spared)
        drawn, sure = np.zeros(index.num_images, bool), np.zeros(len(counts), np.int64)
        between: list[_Between] = []
        for group, content in zip(groups, run_groups(_ManyWorker, settings, groups, context), strict=True):
            arrays = load(content)
            drawn[group.first : group.first + group.images] = np.unpackbits(arrays[_BITS], count=group.images)
            sure[arrays[_SURE]] += arrays[_SURE_IMAGES]
            place = np.int32 if index.num_images < 2**31 else np.int64
            between.append(
                _Between(arrays[_NUMBER].astype(place), arrays[LABEL].astype(np.int32), arrays[_DRAW].copy())
            )
        unsure = np.zeros(len(counts), np.int64)
        for part in between:
            unsure += np.bincount(part.labels, minlength=len(counts))
        failed = (sure > wanted) | ((sure + unsure < np.minimum(wanted, available)) & (limits < LARGEST_DRAW))
        if not failed.any():
            for chosen in _smallest(between, wanted - sure, unsure):
                drawn[chosen] = True
            return drawn
        lows, limits = np.where(failed, -1, lows), np.where(failed, LARGEST_DRAW, limits)


class _Between(NamedTuple):
    """The images of a group between the limits, (M,) each: number in the set, class, and hash."""

    numbers: np.ndarray
    labels: np.ndarray
    draws: np.ndarray


def _smallest(between: Sequence[_Between], wanted: np.ndarray, present: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the numbers of the images with the smallest hashes of each class, for some classes at a time.

    Args:
        between: the images of all groups.
        wanted: images of each class that are still wanted, (C,).
        present: images of each class in `between`, (C,).
    """
    block = np.cumsum(present) // SORTED_TOGETHER
    for number in np.unique(block):
        first, last = np.searchsorted(block, number), np.searchsorted(block, number, "right")
        rows = [np.flatnonzero((part.labels >= first) & (part.labels < last)) for part in between]
        found = [
            np.concatenate([values[of_part] for values, of_part in zip(column, rows, strict=True)])
            for column in zip(*between, strict=True)
        ]
        numbers, labels, draws = found
        places = Candidates(np.zeros(len(numbers), np.int32), numbers, labels, draws, [])
        yield numbers[draw_smallest(places, wanted.tolist())]


def draw_floors(counts: Sequence[int], available: Sequence[int]) -> np.ndarray:
    """Return a hash of each class below which all images are chosen, int64 (C,); -1 where that is not sure of any."""
    wanted = np.asarray(counts, np.float64)
    share = (wanted - 10 * np.sqrt(wanted) - 20) / np.maximum(1, np.asarray(available, np.float64))
    return np.where(share > 0, np.clip(share, 0, 1) * float(LARGEST_DRAW // 2) * 2, -1).astype(np.int64)


class _ManyWorker(DrawWorker):
    """Its partial result: a bit for each image below the lower limit, their number for each class that has some, and
    number in the set, class and hash of the images between the limits."""

    def __init__(self, sidecars: SidecarUrls, salt: Salt, lows: np.ndarray, limits: np.ndarray, folder: str):
        super().__init__(sidecars, salt, limits, folder)
        self._lows = lows

    def make(self, unit: Group) -> bytes:
        return encode_drawn(unit, {n: self._below_limits(unit, n)[:3] for n in unit.positions}, self._lows)


def encode_drawn(unit: Group, below: Mapping[int, Sequence[np.ndarray]], lows: np.ndarray) -> bytes:
    """Return the partial result of a group.

    Args:
        unit: the group.
        below: position of a shard -> row, class and hash of its images below the upper limits, (M,) each.
        lows: the lower limits, int64 (C,).
    """
    chosen, sure_labels = np.zeros(unit.images, bool), []
    numbers, labels, draws = [], [], []
    for position, (rows, own, hashes) in below.items():
        first = unit.images_of(position).start
        sure = hashes <= lows[own]
        chosen[first - unit.first + rows[sure]] = True
        sure_labels.append(own[sure])
        numbers.append(first + rows[~sure])
        labels.append(own[~sure])
        draws.append(hashes[~sure])
    classes, images = np.unique(np.concatenate(sure_labels), return_counts=True)
    return save(
        {
            _BITS: np.packbits(chosen),
            _SURE: classes.astype(np.int64),
            _SURE_IMAGES: images,
            _NUMBER: np.concatenate(numbers).astype(np.int64),
            LABEL: np.concatenate(labels).astype(np.int64),
            _DRAW: np.concatenate(draws),
        }
    )
