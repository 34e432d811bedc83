"""Those images of a data set that a draw by hashes may choose, found by batch inference.

A draw takes the images of a class with the smallest hashes. A hash is uniform, so if k of n images are wanted, those
below (k + 10 sqrt(k) + 20) / n of its range hold them all but for one draw in 10^20, which is seen and made again with
all images. So one pass over the sidecars finds little more than what is chosen.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from safetensors.numpy import load, save

from dpt_ray.core.seeds import derive_seeds
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.label_choice import Candidates
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, label_sidecars
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

_SHARD, _ROW, _DRAW = "shard", "row", "draw"
_END = 2**63
LARGEST_DRAW = _END - 1
"""Hashes are not larger."""

Salt = tuple[str, int]
"""Name of the draw and its seed."""


def draw_candidates(
    context: StepContext,
    index: DatasetIndex,
    salt: Salt,
    counts: Sequence[int],
    available: Sequence[int],
    spared: Mapping[int, np.ndarray] | None = None,
) -> Candidates:
    """Return images among which are the `counts[c]` of each class c with the smallest hashes, or all of the class.

    Args:
        context: that of the step.
        index: the data set, with true labels.
        salt: name and seed of the draw.
        counts: images that are wanted of each class.
        available: images of each class that may be drawn, without those that are spared.
        spared: position of a shard -> rows that are not drawn, int64 (M,).
    """
    limits = draw_limits(counts, available)
    while True:
        settings = {"sidecars": label_sidecars(index), "salt": salt, "limits": limits}
        groups = shard_groups([shard.samples for shard in index.shards], spared)
        parts = run_groups(_CandidateWorker, settings, groups, context)
        found = Candidates.joined([decode_candidates(part) for part in parts])
        present = np.bincount(found.labels, minlength=len(counts))
        short = (present < np.minimum(counts, available)) & (limits < LARGEST_DRAW)
        if not short.any():
            return found
        limits = np.where(short, LARGEST_DRAW, limits)


def draw_limits(counts: Sequence[int], available: Sequence[int]) -> np.ndarray:
    """Return the largest hash of an image of each class that may be chosen, int64 (C,); -1 for a class without any."""
    wanted = np.asarray(counts, np.float64)
    share = (wanted + 10 * np.sqrt(wanted) + 20) / np.maximum(1, np.asarray(available, np.float64))
    limits = np.where(share < 1, np.minimum(share, 1) * float(_END), 0).astype(np.int64)
    return np.where(wanted == 0, -1, np.where(share < 1, limits, LARGEST_DRAW))


def encode_candidates(found: Candidates) -> bytes:
    """Return the content of a file of candidates."""
    keys = np.frombuffer(json.dumps(found.keys).encode(), np.uint8)
    arrays = {_SHARD: found.shards, _ROW: found.rows, LABEL: found.labels, _DRAW: found.draws, KEY: keys}
    return save(arrays)


def decode_candidates(content: bytes) -> Candidates:
    """Return the candidates in a file."""
    arrays = load(content)
    keys = json.loads(arrays[KEY].tobytes())
    return Candidates(arrays[_SHARD], arrays[_ROW], arrays[LABEL], arrays[_DRAW], keys)


class DrawWorker(GroupWorker):
    """Base of workers that hash the keys of the images that may be drawn."""

    def __init__(self, sidecars: SidecarUrls, salt: Salt, limits: np.ndarray, folder: str):
        super().__init__(folder)
        self._sidecars, self._salt, self._limits = sidecars, salt, limits

    def _below_limits(self, unit: Group, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """Return rows, classes and hashes of a shard's images below the limits, (M,) each, and the shard's keys."""
        url = self._sidecars[position]
        assert url is not None
        sidecar = read_sidecar(url, [LABEL])
        labels, keys = sidecar[LABEL], sidecar[KEY]
        may = (labels >= 0) & (self._limits[np.maximum(labels, 0)] >= 0)
        if position in unit.rows:
            may[unit.rows[position]] = False
        rows = np.flatnonzero(may)
        draws = derive_seeds(self._salt, [keys[row] for row in rows])
        near = draws <= self._limits[labels[rows]]
        rows = rows[near]
        return rows, labels[rows], draws[near], keys


class _CandidateWorker(DrawWorker):
    """Its partial result is candidates; see `encode_candidates`."""

    def make(self, unit: Group) -> bytes:
        return encode_candidates(Candidates.joined(list(self._of_shards(unit))))

    def _of_shards(self, unit: Group) -> Iterator[Candidates]:
        for position in unit.positions:
            rows, labels, draws, keys = self._below_limits(unit, position)
            yield Candidates(np.full(len(rows), position), rows, labels, draws, [keys[row] for row in rows])
