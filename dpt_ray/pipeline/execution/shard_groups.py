"""Partial results of groups of shards, made by batch inference and merged by the driver.

The driver would read the sidecars of a large set one after another while the cluster idles. Here a unit of work is a
group of shards. Its partial result is one file, whose size does not depend on the number of images in it, or is bounded
by what is wanted of all images. A set of one group is computed in the driver itself, without Ray.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpt_ray.data.storage import stores
from dpt_ray.distributed.inference import run_units
from dpt_ray.distributed.resources import inference_resources
from dpt_ray.distributed.units import UnitWorker
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.execution.step import StepContext

LEAST_SHARDS = 64
"""Shards of a group, unless there would be more than `MOST_GROUPS`."""
MOST_GROUPS = 512
"""Most groups of a set. The driver reads one file of each, 15 s together from a store that answers in 30 ms."""


@dataclass(frozen=True, eq=False)
class Group:
    """Consecutive shards, which are a unit of work.

    Attributes:
        start: position of the first shard.
        counts: number of images of each shard, int32 (shards,).
        first: number of images in all shards before them.
        rows: position of a shard of the group -> rows of it that the work regards in its own way, int32 (M,).
    """

    start: int
    counts: np.ndarray
    first: int
    rows: Mapping[int, np.ndarray]

    @property
    def positions(self) -> range:
        """Positions of the shards."""
        return range(self.start, self.start + len(self.counts))

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.counts.sum())

    def images_of(self, position: int) -> range:
        """Return the numbers of the images of a shard, counted through all shards."""
        own = position - self.start
        first = self.first + int(self.counts[:own].sum())
        return range(first, first + int(self.counts[own]))


def shard_groups(
    counts: Sequence[int] | np.ndarray, rows: Mapping[int, np.ndarray] | None = None, most: int = MOST_GROUPS
) -> list[Group]:
    """Divide shards into groups.

    Args:
        counts: number of images of each shard.
        rows: position of a shard -> rows of it; each group gets its own.
        most: most groups.
    """
    size = max(LEAST_SHARDS, -(-len(counts) // most))
    starts = range(0, len(counts), size)
    own: dict[int, dict[int, np.ndarray]] = {start: {} for start in starts}
    for position, found in (rows or {}).items():
        own[position // size * size][position] = found.astype(np.int32)
    whole = np.array(counts, np.int64)
    before = np.cumsum(whole) - whole
    return [
        Group(start, whole[start : start + size].astype(np.int32), int(before[start]), own[start]) for start in starts
    ]


class GroupWorker(UnitWorker):
    """Computes the partial results of groups.

    Args:
        folder: URL of the folder for their files.
    """

    def __init__(self, folder: str):
        self._folder = folder

    def output_url(self, unit: Group) -> str:
        return group_url(self._folder, unit.start)

    def facts(self, unit: Group, content: bytes) -> JsonObject:
        return {"images": unit.images}


def group_url(folder: str, start: int) -> str:
    """Return the URL of the file of the group whose first shard has the position `start`."""
    return stores.join(folder, f"{start:06d}")


def run_groups(
    worker_class: type[GroupWorker],
    settings: Mapping[str, Any],
    groups: Sequence[Group],
    context: StepContext,
    parts: str = "parts",
) -> Iterator[bytes]:
    """Yield the partial result of every group, in order; their files are removed in the end.

    Args:
        worker_class: computes them; its constructor takes `folder`, which this function adds.
        settings: its other arguments; they must pickle.
        groups: the groups.
        context: that of the step.
        parts: name of the folder for the files, different for each use within a step.

    Raises:
        UserError: what a worker raises.
    """
    settings = {**settings, "folder": context.file(parts)}
    if len(groups) < 2:
        for group in groups:
            yield worker_class(**settings).make(group)
        return
    for url in make_files(worker_class, settings, groups, context, sum(group.images for group in groups)):
        yield stores.read_bytes(url)
    stores.remove_tree(context.file(parts))


def make_files(
    worker_class: type[UnitWorker], settings: Mapping[str, Any], units: Sequence[Any], context: StepContext, images: int
) -> list[str]:
    """Make the files of units on Ray, and return their URLs in order.

    Args:
        worker_class: computes the files.
        settings: arguments of its constructor; they must pickle.
        units: the units; they must pickle.
        context: that of the step.
        images: number of images of all units.

    Raises:
        UserError: what a worker raises.
    """
    resources, progress = inference_resources(context.cluster), context.progress(images)
    files = run_units(worker_class, settings, list(units), resources=resources, progress=progress)
    return [str(file["url"]) for file in files]
