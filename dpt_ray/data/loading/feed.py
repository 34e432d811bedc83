"""Batches for the training loop: the rows of all sources in a step, with the rows' own random streams."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.row_random import RowRandom, derive_seed
from dpt_ray.core.transfer import to_device
from dpt_ray.data.loading.batches import INDEX, ReadSegment, batches
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.source import CONFIDENCE, IMAGE, LABEL, TOP_CLASSES, TOP_PROBABILITIES


@dataclass(frozen=True)
class Feed:
    """One source as a worker reads it.

    Attributes:
        order: the order of its images.
        read: reads a segment.
        batch: images in a step over all workers, a multiple of the order's lanes.
    """

    order: ImageOrder
    read: ReadSegment
    batch: int


def worker_lanes(lanes: int, rank: int, num_workers: int) -> range:
    """Return the lanes that a worker reads.

    Raises:
        ValueError: the number of lanes is not a multiple of the number of workers.
    """
    if lanes % num_workers:
        raise ValueError(f"{lanes} lanes cannot be shared equally by {num_workers} workers")
    return range(rank * lanes // num_workers, (rank + 1) * lanes // num_workers)


def training_batches(
    feeds: Mapping[str, Feed],
    *,
    lanes: Sequence[int],
    seed: int,
    first_step: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[dict[str, ImageBatch]]:
    """Yield a worker's batches of every step from `first_step` on, without end.

    Args:
        feeds: source name -> how the worker reads it.
        lanes: the lanes that this worker reads.
        seed: the training's seed. With the source's name, the step and the lane it determines every random number.
        first_step: the first step.
        device: the device of images, labels and random numbers.

    Yields:
        Source name -> the batch of a step.
    """
    rows = {name: feed.batch // feed.order.lanes for name, feed in feeds.items()}
    columns = {
        name: batches(feed.order, feed.read, lanes=lanes, rows_per_lane=rows[name], first_step=first_step)
        for name, feed in feeds.items()
    }
    step = first_step
    while True:
        batch = {}
        for name, source_batches in columns.items():
            values = {
                column: to_device(torch.from_numpy(array), device) for column, array in next(source_batches).items()
            }
            batch[name] = ImageBatch(
                images=values[IMAGE],
                labels=values[LABEL],
                index=values[INDEX],
                confidence=values.get(CONFIDENCE),
                classes=values.get(TOP_CLASSES),
                probabilities=values.get(TOP_PROBABILITIES),
                random=RowRandom([derive_seed(seed, name, step, lane) for lane in lanes], rows[name], device),
            )
        yield batch
        step += 1
