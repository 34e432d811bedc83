"""Those images of a data set that a list may name, found by groups of shards."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from safetensors.numpy import load, save

from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.index import DatasetIndex
from dpt_ray.data.shards.keys import normalise_name
from dpt_ray.data.shards.label_choice import Candidates, ListedImages, names_of
from dpt_ray.data.shards.listed_paths import ListedPaths
from dpt_ray.data.shards.sidecar_urls import SidecarUrls, label_sidecars
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.pipeline.artifacts.labelled import AllImages
from dpt_ray.pipeline.execution.draw_candidates import decode_candidates, encode_candidates
from dpt_ray.pipeline.execution.shard_groups import LEAST_SHARDS, Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

_FOUND, _FOLDERS = "found", "folders"


def listed_candidates(
    context: StepContext, index: DatasetIndex, names: Sequence[str], location: str | None
) -> ListedImages:
    """Return the images of a data set that names or paths may mean.

    Args:
        context: that of the step.
        index: the data set.
        names: see `find_listed`.
        location: see `find_listed`.
    """
    settings = {
        "sidecars": label_sidecars(index),
        "names": np.unique(_hashes(list(names_of(names, location)))),
        "own_names": tuple(ListedPaths(location, ()).own_names),
    }
    found, folders = [], set[str]()
    for content in run_groups(_ListedWorker, settings, shard_groups([s.samples for s in index.shards]), context):
        parts = load(content)
        found.append(decode_candidates(parts[_FOUND].tobytes()))
        folders |= set(json.loads(parts[_FOLDERS].tobytes()))
    whole = Candidates.joined(found)
    images = whole.images(np.arange(len(whole.keys)))
    return ListedImages(images, [f"{folder}/" for folder in folders], AllImages(index, LEAST_SHARDS))


def _hashes(names: Sequence[str]) -> np.ndarray:
    """Return 64 bits of a hash of each name, uint64 (N,). Equal hashes of other names cost a comparison of texts."""
    return np.asarray(pd.util.hash_array(np.array(names, dtype=object))) if names else np.zeros(0, np.uint64)


class _ListedWorker(GroupWorker):
    """Its partial result is the images with a listed name, and those of `own_names` that are first folders of keys."""

    def __init__(self, sidecars: SidecarUrls, names: np.ndarray, own_names: tuple[str, ...], folder: str):
        super().__init__(folder)
        self._sidecars, self._names, self._own_names = sidecars, names, set(own_names)

    def make(self, unit: Group) -> bytes:
        found, folders = [], set[str]()
        for position in unit.positions:
            url = self._sidecars[position]
            assert url is not None
            sidecar = read_sidecar(url, [LABEL])
            keys = sidecar[KEY]
            rows = np.flatnonzero(self._is_listed(keys))
            chosen = [keys[row] for row in rows]
            places = np.full(len(rows), position), rows.astype(np.int32)
            labels, draws = sidecar[LABEL][rows].astype(np.int32), np.zeros(len(rows), np.int64)
            found.append(Candidates(*places, labels, draws, chosen))
            firsts = {key.partition("/")[0] for key in keys if "/" in key}
            folders |= {normalise_name(first) for first in firsts} & self._own_names
        content = encode_candidates(Candidates.joined(found))
        arrays = {_FOUND: content, _FOLDERS: json.dumps(sorted(folders)).encode()}
        return save({name: np.frombuffer(value, np.uint8) for name, value in arrays.items()})

    def _is_listed(self, keys: Sequence[str]) -> np.ndarray:
        """Return whether key or last part of each image is listed, in either of Unicode's forms, bool (N,)."""
        listed = np.zeros(len(keys), bool)
        for form in (keys, [normalise_name(key) for key in keys]):
            for names in (form, [key.rpartition("/")[2] for key in form]):
                listed |= np.isin(_hashes(names), self._names)
        return listed
