"""How many images have each pair of labels, counted by groups of shards."""

import numpy as np
from safetensors.numpy import load, save

from dpt_ray.core.class_ids import UNKNOWN_LABEL
from dpt_ray.core.label_mixtures import LabelMixtures
from dpt_ray.data.loading.source import LABEL
from dpt_ray.data.shards.sidecar_urls import SidecarUrls
from dpt_ray.data.shards.sidecars import read_sidecar
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext


def count_label_pairs(
    context: StepContext, counts: np.ndarray, first: SidecarUrls, second: SidecarUrls, shape: tuple[int, int]
) -> LabelMixtures:
    """Count the images of each pair; those without a label on either side are left out.

    Args:
        context: that of the step.
        counts: number of images of each shard.
        first: sidecars with labels of the first kind.
        second: sidecars with those of the second kind, for the same images.
        shape: number of labels of each kind.
    """
    pairs, images = np.zeros(0, np.int64), np.zeros(0, np.int64)
    settings = {"first": first, "second": second, "others": shape[1]}
    for content in run_groups(_PairsWorker, settings, shard_groups(counts), context, "label_pairs"):
        part = load(content)
        pairs, places = np.unique(np.concatenate([pairs, part["pairs"]]), return_inverse=True)
        images = np.bincount(places, np.concatenate([images, part["images"]]), len(pairs)).astype(np.int64)
    return LabelMixtures(pairs // shape[1], pairs % shape[1], images, shape)


class _PairsWorker(GroupWorker):
    """Its file holds each pair that occurs, as first * others + second, and its number of images; int64 (P,) both."""

    def __init__(self, first: SidecarUrls, second: SidecarUrls, others: int, folder: str):
        super().__init__(folder)
        self._first, self._second, self._others = first, second, others

    def make(self, unit: Group) -> bytes:
        found = np.concatenate([np.zeros(0, np.int64), *map(self._of_shard, unit.positions)])
        pairs, images = np.unique(found, return_counts=True)
        return save({"pairs": pairs, "images": images.astype(np.int64)})

    def _of_shard(self, position: int) -> np.ndarray:
        urls = self._first[position], self._second[position]
        if urls[0] is None or urls[1] is None:
            return np.zeros(0, np.int64)
        first, second = (read_sidecar(url, [LABEL])[LABEL] for url in urls if url is not None)
        known = (first != UNKNOWN_LABEL) & (second != UNKNOWN_LABEL)
        pairs: np.ndarray = (first * self._others + second)[known]
        return pairs
