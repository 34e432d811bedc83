"""Pairs of labels are counted the same in any number of groups of shards."""

import numpy as np
import pytest

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.data.shards.sidecar_urls import sidecars_where
from dpt_ray.data.shards.sidecars import encode_sidecar, sidecar_name
from dpt_ray.data.storage import stores
from dpt_ray.pipeline.execution import label_pairs, shard_groups
from dpt_ray.pipeline.execution.label_pairs import count_label_pairs

SHARDS, SHAPE = 7, (4, 6)


def one_by_one(worker_class, settings, groups, context, parts):
    """Compute the partial results in this process."""
    for group in groups:
        yield worker_class(**settings, folder="").make(group)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_all_pairs_of_known_labels_are_counted(tmp_path, monkeypatch, size):
    monkeypatch.setattr(shard_groups, "LEAST_SHARDS", size)
    monkeypatch.setattr(label_pairs, "run_groups", one_by_one)
    random, expected = np.random.default_rng(0), np.zeros(SHAPE, np.int64)
    sides = tuple(sidecars_where(str(tmp_path / side), [number != 2 for number in range(SHARDS)]) for side in "ab")
    counts = random.integers(1, 50, SHARDS)
    for number, count in enumerate(counts):
        if number == 2:  # a shard that could not be read
            continue
        pairs = [random.integers(0, labels, count) for labels in SHAPE]
        pairs[0][random.random(count) < 0.2] = UNKNOWN_LABEL
        for side, labels in zip("ab", pairs, strict=True):
            keys = [f"{number}-{row}" for row in range(count)]
            stores.write_bytes(str(tmp_path / side / sidecar_name(number)), encode_sidecar(keys, {"label": labels}))
        known = pairs[0] != UNKNOWN_LABEL
        np.add.at(expected, (pairs[0][known], pairs[1][known]), 1)
    found = count_label_pairs(None, counts, *sides, SHAPE)
    counted = np.zeros(SHAPE, np.int64)
    counted[found.labels, found.others] = found.images
    assert (counted == expected).all()
    assert (found.images > 0).all()
