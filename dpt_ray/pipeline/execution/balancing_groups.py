"""The scales of balanced labels, from a sample of the predictions that groups of shards select."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from dpt_ray.core.balanced_assignment import (
    ClassScales,
    DualSums,
    class_log_scales,
    dual_sums,
    streamed_log_scales,
)
from dpt_ray.core.seeds import derive_seeds
from dpt_ray.data.shards.sidecar_urls import SidecarUrls
from dpt_ray.data.shards.sidecars import KEY, read_sidecar
from dpt_ray.data.storage import stores
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.predictions import PROBABILITIES, PredictionsFacts, prediction_sidecars, shard_counts
from dpt_ray.pipeline.artifacts.store import Artifact
from dpt_ray.pipeline.execution.shard_groups import Group, GroupWorker, group_url, make_files, run_groups, shard_groups
from dpt_ray.pipeline.execution.step import StepContext

SAMPLED_NUMBERS = 2**24
"""Approximate number of probabilities that the driver holds in memory to compute the scales."""
MOST_HELD_CLASSES = 1024
"""Classes above which a sample of `SAMPLED_NUMBERS` says too little. The scales are then computed on the cluster, from
`IMAGES_PER_CLASS` images for each class, and the driver holds a few numbers for each class."""
IMAGES_PER_CLASS = 16
MOST_DUAL_PARTS = 32
"""Most files of a pass over the sample. There may be 200 passes, each of which waits for all of its files."""
_SAMPLE, _DUAL = "sample", "dual"


def balance_classes(context: StepContext, predictions: Artifact, shares: Tensor, sharpness: float) -> ClassScales:
    """Return the scales of the classes; see `class_log_scales`.

    Args:
        context: that of the step.
        predictions: with all probabilities.
        shares: wanted share of each class, (C,).
        sharpness: see `class_log_scales`.
    """
    facts, classes = PredictionsFacts.read(predictions), len(shares)
    counts = shard_counts(facts)
    groups = shard_groups(counts)
    sidecars, stride = prediction_sidecars(predictions), sample_stride(int(counts.sum()), classes)
    settings = {"predictions": sidecars, "stride": stride, "num_classes": classes}
    if classes <= MOST_HELD_CLASSES:
        content = b"".join(run_groups(_SampleWorker, settings, groups, context, _SAMPLE))
        return class_log_scales(_rows(content, classes).float(), shares, sharpness=sharpness)
    folder = context.file(_SAMPLE)
    if len(groups) == 1:
        sample = _rows(_SampleWorker(sidecars, stride, classes, folder).make(groups[0]), classes)
        return streamed_log_scales(lambda scales: dual_sums(sample, scales, sharpness=sharpness), shares)
    make_files(_SampleWorker, {**settings, "folder": folder}, groups, context, int(counts.sum()))
    parts = dual_parts(groups)
    passes = 0

    def sums(scales: Tensor) -> DualSums:
        nonlocal passes
        passes += 1
        place = stores.join(context.file(_DUAL), f"{passes:04d}")
        dual = {"sample": folder, "log_scales": scales.numpy(), "sharpness": sharpness}
        urls = make_files(_DualWorker, {**dual, "folder": place}, parts, context, int(counts.sum()))
        total = sum((_decoded(stores.read_bytes(url)) for url in urls), _nothing(classes))
        stores.remove_tree(place)
        return total

    scales = streamed_log_scales(sums, shares)
    for name in (_SAMPLE, _DUAL):
        stores.remove_tree(context.file(name))
    return scales


def sample_stride(images: int, classes: int) -> int:
    """Return n where every n-th image is in the sample."""
    if classes <= MOST_HELD_CLASSES:
        return max(1, -(-images * classes // SAMPLED_NUMBERS))
    return max(1, images // (IMAGES_PER_CLASS * classes))


def _rows(content: bytes, classes: int) -> Tensor:
    """Return the probabilities in a file of the sample, float16 (N, C)."""
    return torch.from_numpy(np.frombuffer(content, np.float16).reshape(-1, classes).copy())


def _nothing(classes: int) -> DualSums:
    return DualSums(0, 0.0, torch.full((classes,), -torch.inf, dtype=torch.float64))


def _decoded(content: bytes) -> DualSums:
    tensors = load(content)
    return DualSums(int(tensors["images"]), float(tensors["rows"]), tensors["log_columns"])


class _SampleWorker(GroupWorker):
    """Its file holds the probabilities of a sample of images, float16 (N, C).

    A hash of the key selects them, since the order of images may follow their classes.
    """

    def __init__(self, predictions: SidecarUrls, stride: int, num_classes: int, folder: str):
        super().__init__(folder)
        self._predictions, self._stride, self._num_classes = predictions, stride, num_classes

    def make(self, unit: Group) -> bytes:
        return b"".join(self._of_shard(position) for position in unit.positions)

    def _of_shard(self, position: int) -> bytes:
        url = self._predictions[position]
        if url is None:
            return b""
        sidecar = read_sidecar(url, [PROBABILITIES])
        chosen = derive_seeds(("balancing sample",), sidecar[KEY]) % self._stride == 0
        rows: np.ndarray = sidecar[PROBABILITIES][chosen]
        return rows.astype(np.float16).tobytes()


class DualPart(NamedTuple):
    """Files of the sample whose sums are made together: a number, and the first shards of their groups."""

    number: int
    starts: tuple[int, ...]


def dual_parts(groups: Sequence[Group]) -> list[DualPart]:
    """Divide the files of the sample into at most `MOST_DUAL_PARTS` parts."""
    size = -(-len(groups) // MOST_DUAL_PARTS)
    starts = [group.start for group in groups]
    return [DualPart(place // size, tuple(starts[place : place + size])) for place in range(0, len(groups), size)]


class _DualWorker(UnitWorker):
    """Its file holds the sums over a part of the sample at given scales."""

    def __init__(self, sample: str, log_scales: np.ndarray, sharpness: float, folder: str):
        self._folder, self._sample = folder, sample
        self._scales, self._sharpness = torch.from_numpy(log_scales), sharpness

    def output_url(self, unit: DualPart) -> str:
        return stores.join(self._folder, f"{unit.number:06d}")

    def facts(self, unit: DualPart, content: bytes) -> JsonObject:
        return {"images": _decoded(content).images}

    def make(self, unit: DualPart) -> bytes:
        classes = len(self._scales)
        files = (_rows(stores.read_bytes(group_url(self._sample, start)), classes) for start in unit.starts)
        each = (dual_sums(rows, self._scales, sharpness=self._sharpness) for rows in files)
        sums = sum(each, _nothing(classes))
        return save(
            {
                "images": torch.tensor(sums.images),
                "rows": torch.tensor(sums.rows, dtype=torch.float64),
                "log_columns": sums.log_columns,
            }
        )
