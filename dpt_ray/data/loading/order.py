"""The order in which training reads images: a pure function of counts, seed and epoch.

An image source is read as one endless sequence of positions p = 0, 1, 2, ...; epoch p // N. The
positions are dealt in turn to a fixed number of lanes (lane p % lanes). In each epoch the shards
are permuted, the lanes cut the permuted sequence into contiguous ranges, and each lane shuffles its
range in windows. So

- every image comes exactly once an epoch, for any counts and any number of lanes;
- a global batch holds equally many images of every lane, so the images of a step do not depend on
  how many workers share the lanes;
- a lane reads each shard's rows in one run, so a streaming reader fetches little that it does not use;
- the place to resume is one integer, the images seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np


@dataclass(frozen=True)
class Segment:
    """Rows [start, stop) of one shard."""

    shard: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def split(self, longest: int) -> list["Segment"]:
        """Return the segment in parts of at most so many rows."""
        starts = range(self.start, self.stop, longest)
        return [Segment(self.shard, start, min(start + longest, self.stop)) for start in starts]


@dataclass(frozen=True)
class Window:
    """A run of one lane's images, and the order in which they are handed out.

    Attributes:
        segments: what to read, in reading order.
        shuffle: makes `permutation`.
    """

    segments: tuple[Segment, ...]
    shuffle: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    @cached_property
    def permutation(self) -> np.ndarray:
        """For each image handed out, its place in the concatenated segments."""
        return self.shuffle(len(self))


class ImageOrder:
    """The order of one image source.

    Args:
        counts: images in each shard.
        seed: the order's seed.
        lanes: number of lanes.
        shuffle_window: images that are shuffled together, over all lanes.
    """

    def __init__(self, counts: Sequence[int], *, seed: int, lanes: int, shuffle_window: int):
        self.counts = np.asarray(counts, dtype=np.int64)
        self.num_images = int(self.counts.sum())
        self.seed, self.lanes = seed, lanes
        self.lane_window = max(1, -(-shuffle_window // lanes))
        if self.num_images == 0:
            raise ValueError("an image source must hold at least one image")
        self._epoch_shards = lru_cache(maxsize=4)(self._permute_shards)

    def lane_share(self, lane: int, epoch: int) -> tuple[int, int]:
        """Return the lane's first image of the epoch, counted from the run's start, and how many it has."""
        first = _lane_positions_below(epoch * self.num_images, lane, self.lanes)
        last = _lane_positions_below((epoch + 1) * self.num_images, lane, self.lanes)
        return first, last - first

    def windows(self, lane: int, lane_offset: int = 0) -> Iterator[tuple[Window, int]]:
        """Yield a lane's windows for ever, beginning with the one that holds its image `lane_offset`.

        Yields:
            The window, and how many of its first images to skip (0 in all but the first).
        """
        epoch = (lane_offset * self.lanes + lane) // self.num_images
        skip = lane_offset - self.lane_share(lane, epoch)[0]
        while True:
            _, share = self.lane_share(lane, epoch)
            for begin in range(skip // self.lane_window * self.lane_window, share, self.lane_window):
                yield self._window(lane, epoch, begin, min(begin + self.lane_window, share)), max(0, skip - begin)
                skip = 0
            epoch, skip = epoch + 1, 0

    def _window(self, lane: int, epoch: int, begin: int, end: int) -> Window:
        earlier_lanes = sum(self.lane_share(other, epoch)[1] for other in range(lane))
        segments = tuple(self._segments(epoch, earlier_lanes + begin, earlier_lanes + end))
        return Window(segments, lambda size: self._generator(epoch, 1 + lane, begin).permutation(size))

    def _segments(self, epoch: int, begin: int, end: int) -> Iterator[Segment]:
        """Yield what lies in [begin, end) of the epoch's permuted shard sequence."""
        shards, ends = self._epoch_shards(epoch)
        index = int(np.searchsorted(ends, begin, side="right"))
        while begin < end:
            shard = int(shards[index])
            shard_begin = int(ends[index] - self.counts[shard])
            stop = min(end, int(ends[index]))
            if stop > begin:
                yield Segment(shard, begin - shard_begin, stop - shard_begin)
            begin, index = stop, index + 1

    def _permute_shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        shards = self._generator(epoch, 0, 0).permutation(len(self.counts))
        return shards, np.cumsum(self.counts[shards])

    def _generator(self, *parts: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *parts])))


def _lane_positions_below(position: int, lane: int, lanes: int) -> int:
    """Return how many positions p < `position` have p % lanes == lane."""
    return max(0, -(-(position - lane) // lanes))
