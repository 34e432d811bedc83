"""How training workers share the lanes of the data order, and with them the rows of every batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# Not a context variable: torch computes gradients in threads of its own, which would not see it.
_shared: int | None = None


def worker_lanes(lanes: int, rank: int, num_workers: int) -> range:
    """Return the lanes that a worker reads: contiguous ranges in the order of ranks, whose lengths differ by at most 1.

    Every lane has equally many rows in a batch, so a worker's share of the lanes is its share of the rows.

    Args:
        lanes: the setting `data.lanes`.
        rank: number of the worker, from 0.
        num_workers: number of all workers.

    Raises:
        ValueError: there are more workers than lanes.
    """
    if num_workers > lanes:
        raise ValueError(f"{lanes} lanes cannot be shared by {num_workers} workers")
    return range(rank * lanes // num_workers, (rank + 1) * lanes // num_workers)


@contextmanager
def lanes_shared(lanes: int) -> Iterator[None]:
    """Let the collective operations of this process weight workers by their lanes within the context.

    Without it, every worker has the same weight. Every worker must enter it with the same number of lanes.
    """
    global _shared
    before, _shared = _shared, lanes
    try:
        yield
    finally:
        _shared = before


def unequal_lanes(num_workers: int) -> tuple[int, ...] | None:
    """Return the number of lanes of each of some workers; None if all of them have the same weight."""
    return None if _shared is None or _shared % num_workers == 0 else _lane_counts(_shared, num_workers)


@cache
def _lane_counts(lanes: int, num_workers: int) -> tuple[int, ...]:
    return tuple(len(worker_lanes(lanes, rank, num_workers)) for rank in range(num_workers))
