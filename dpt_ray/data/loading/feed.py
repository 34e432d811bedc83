"""Batches for the training loop: the rows of all sources in a step, with the rows' own random streams."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import torch
from torch import Tensor

from dpt_ray.core.batch import ImageBatch
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.seeds import derive_seed
from dpt_ray.core.transfer import CopyStream
from dpt_ray.data.loading.batches import INDEX, ReadSegment, batches
from dpt_ray.data.loading.order import ImageOrder
from dpt_ray.data.loading.resident import ResidentSource
from dpt_ray.data.loading.source import CONFIDENCE, IMAGE, LABEL, TOP_CLASSES, TOP_PROBABILITIES

STEPS_AHEAD = 2
"""Number of steps whose copies to a GPU are under way while an earlier step computes."""


@dataclass(frozen=True)
class Feed:
    """One source as a worker reads it.

    Attributes:
        order: the order of its images.
        read: reads a segment.
        batch: images in a step over all workers, a multiple of the order's lanes.
        resident: the source's rows on the training device; they are then not read again. None to read segments.
    """

    order: ImageOrder
    read: ReadSegment
    batch: int
    resident: ResidentSource | None = None


def training_batches(
    feeds: Mapping[str, Feed],
    *,
    lanes: Sequence[int],
    seed: int,
    first_step: int = 0,
    stop_step: int | None = None,
    device: torch.device | str = "cpu",
    steps_ahead: int | None = None,
) -> Iterator[dict[str, ImageBatch]]:
    """Yield a worker's batches of every step from `first_step` on.

    Args:
        feeds: source name -> how the worker reads it.
        lanes: the lanes that this worker reads.
        seed: the training's seed. With the source's name, the step and the lane it determines every random number.
        first_step: the first step.
        stop_step: the step before which the batches end; None for batches without end.
        device: the device of images, labels and random numbers.
        steps_ahead: number of steps whose copies to the device are started before they are due; `STEPS_AHEAD` on a GPU
            and 0 on other devices by default.

    Yields:
        Source name -> the batch of a step.
    """
    device = torch.device(device)
    ahead = (STEPS_AHEAD if device.type == "cuda" else 0) if steps_ahead is None else steps_ahead
    rows = {name: feed.batch // feed.order.lanes for name, feed in feeds.items()}
    stream = CopyStream(device)
    sources = {name: _source_steps(feed, lanes, rows[name], first_step, stream) for name, feed in feeds.items()}
    started: deque[dict[str, Arrival]] = deque()
    wanted = iter(count(first_step) if stop_step is None else range(first_step, stop_step))
    for step in count(first_step):
        for _ in islice(wanted, ahead + 1 - len(started)):
            started.append({name: next(source) for name, source in sources.items()})
        if not started:
            return
        arrived = {name: arrive() for name, arrive in started.popleft().items()}
        yield {
            name: ImageBatch(
                images=values[IMAGE],
                labels=values[LABEL],
                index=values[INDEX],
                confidence=values.get(CONFIDENCE),
                classes=values.get(TOP_CLASSES),
                probabilities=values.get(TOP_PROBABILITIES),
                random=RowRandom([derive_seed(seed, name, step, lane) for lane in lanes], rows[name], device),
            )
            for name, values in arrived.items()
        }


Arrival = Callable[[], dict[str, Tensor]]
"""Returns the columns of a step's batch on the device; their copy may still be under way there."""


def _source_steps(
    feed: Feed, lanes: Sequence[int], rows_per_lane: int, first_step: int, stream: CopyStream
) -> Iterator[Arrival]:
    """Yield a source's columns of every step, with copies to the device already started."""
    if feed.resident is not None:
        gathered = feed.resident.batches(feed.order, lanes=lanes, rows_per_lane=rows_per_lane, first_step=first_step)
        for columns in gathered:
            yield partial(dict, columns)
    read = batches(feed.order, feed.read, lanes=lanes, rows_per_lane=rows_per_lane, first_step=first_step)
    for arrays in read:
        yield stream.start(arrays)
