"""Partial results of groups of shards, made by batch inference and merged by the driver.

The driver would read the sidecars of a large set one after another while the cluster idles. Here a unit of work is a
group of shards. Its partial result is one file, whose size does not depend on the number of images in it, or is bounded
by what is wanted of all images. A set of one group is computed in the driver itself, without Ray.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dpt_ray.data.storage import stores
from dpt_ray.distributed.cluster import inference_resources
from dpt_ray.distributed.inference import UnitWorker, run_units
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.execution.step import StepContext

LEAST_SHARDS = 64
"""Shards of a group, unless there would be more than `MOST_GROUPS`."""
MOST_GROUPS = 512
"""Most groups of a set. The driver reads one file of each, 15 s together from a store that answers in 30 ms."""

Group = tuple[int, int]
"""Positions of a group's first shard, and of the one after its last."""


def shard_groups(shards: int, most: int = MOST_GROUPS) -> list[Group]:
    """Return the groups of a number of shards, at most `most`."""
    size = max(LEAST_SHARDS, -(-shards // most))
    return [(start, min(start + size, shards)) for start in range(0, shards, size)]


class GroupWorker(UnitWorker):
    """Computes the partial results of groups.

    Args:
        folder: URL of the folder for their files.
        images: number of images of each group, by its first shard.
    """

    def __init__(self, folder: str, images: Mapping[int, int]):
        self._folder, self._images = folder, images

    def output_url(self, unit: Group) -> str:
        return stores.join(self._folder, f"{unit[0]:06d}")

    def facts(self, unit: Group, content: bytes) -> JsonObject:
        return {"images": self._images[unit[0]]}


def run_groups(
    worker_class: type[GroupWorker],
    settings: Mapping[str, Any],
    counts: Sequence[int],
    context: StepContext,
    parts: str = "parts",
    most: int = MOST_GROUPS,
) -> Iterator[bytes]:
    """Yield the partial result of every group, in order; their files are removed in the end.

    Args:
        worker_class: computes them; its constructor takes `folder` and `images`, which this function adds.
        settings: its other arguments; they must pickle.
        counts: number of images of each shard.
        context: that of the step.
        parts: name of the folder for the files, different for each use within a step.
        most: most groups.

    Raises:
        UserError: what a worker raises.
    """
    groups = shard_groups(len(counts), most)
    images = {start: sum(counts[start:stop]) for start, stop in groups}
    settings = {**settings, "folder": context.file(parts), "images": images}
    if len(groups) < 2:
        for group in groups:
            yield worker_class(**settings).make(group)
        return
    for url in make_files(worker_class, settings, groups, context, sum(images.values())):
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
