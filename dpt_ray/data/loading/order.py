"""The order in which training reads images: a pure function of counts, seed and epoch.

The images of a source form an endless sequence with positions p = 0, 1, 2, ...; position p belongs to epoch p // N,
N being the number of images, and to lane p % lanes. In each epoch the shards are permuted. Each lane takes one
contiguous range of the permuted sequence of images and shuffles it window by window. So

- every image occurs exactly once an epoch, for any counts and any number of lanes;
- a global batch holds equally many images of every lane, so the images of a step do not depend on the number of
  workers that share the lanes;
- a lane reads each shard's rows in order, and two lanes share at most one shard, so each image is fetched
  for one lane (`data/loading/segments.py`), however many lanes there are;
- the position to resume from is one integer, the number of images seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np


@dataclass(frozen=True)
class Segment:
    """Rows [start, stop) of one shard.

    Attributes:
        shard: the shard's position in its source.
        start: the first row.
        stop: the row after the last one.
    """

    shard: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def split(self, most_rows: int) -> list["Segment"]:
        """Return the segment as consecutive segments of at most `most_rows` rows."""
        starts = range(self.start, self.stop, most_rows)
        return [Segment(self.shard, start, min(start + most_rows, self.stop)) for start in starts]


@dataclass(frozen=True)
class Window:
    """A shuffle window: consecutive images of one lane, and their shuffled order.

    Attributes:
        segments: the window's images, in reading order.
        shuffle: returns a permutation of the given number of images.
    """

    segments: tuple[Segment, ...]
    shuffle: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    @cached_property
    def permutation(self) -> np.ndarray:
        """For each image in shuffled order, its place in the concatenated segments: int64 (len(self),)."""
        return self.shuffle(len(self))


class ImageOrder:
    """The order of one image source.

    Args:
        counts: number of images in each shard.
        seed: seed of all permutations.
        lanes: number of lanes.
        shuffle_window: images that are shuffled together, over all lanes.

    Raises:
        ValueError: the source has no image.
    """

    def __init__(self, counts: Sequence[int], *, seed: int, lanes: int, shuffle_window: int):
        self.counts = np.asarray(counts, dtype=np.int64)
        self.num_images = int(self.counts.sum())
        self.seed, self.lanes = seed, lanes
        self.lane_window = max(1, -(-shuffle_window // lanes))
        if self.num_images == 0:
            raise ValueError("an image source must hold at least one image")
        self._epoch_shards = lru_cache(maxsize=4)(self._permute_shards)
        self._lane_starts = lru_cache(maxsize=4)(self._add_shares)

    def lane_share(self, lane: int, epoch: int) -> tuple[int, int]:
        """Return the number of a lane's images before an epoch, and the number in it."""
        first = _lane_positions_below(epoch * self.num_images, lane, self.lanes)
        last = _lane_positions_below((epoch + 1) * self.num_images, lane, self.lanes)
        return first, last - first

    def windows(self, lane: int, lane_offset: int = 0) -> Iterator[tuple[Window, int]]:
        """Yield a lane's windows without end, from the window that holds the lane's image number `lane_offset`.

        Yields:
            The window, and the number of its first images to skip, which is 0 in all but the first window.
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
        earlier_lanes = self._lane_starts(epoch)[lane]
        segments = tuple(self._segments(epoch, earlier_lanes + begin, earlier_lanes + end))
        return Window(segments, lambda size: self._generator(epoch, 1 + lane, begin).permutation(size))

    def _segments(self, epoch: int, begin: int, end: int) -> Iterator[Segment]:
        """Yield the segments that make up images [begin, end) of an epoch's permuted shards."""
        shards, ends = self._epoch_shards(epoch)
        index = int(np.searchsorted(ends, begin, side="right"))
        while begin < end:
            shard = int(shards[index])
            shard_begin = int(ends[index] - self.counts[shard])
            stop = min(end, int(ends[index]))
            if stop > begin:
                yield Segment(shard, begin - shard_begin, stop - shard_begin)
            begin, index = stop, index + 1

    def _add_shares(self, epoch: int) -> list[int]:
        """Return the number of an epoch's images in the lanes before each lane."""
        return [0, *accumulate(self.lane_share(lane, epoch)[1] for lane in range(self.lanes))]

    def _permute_shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the shards in an epoch's order, and the number of images up to the end of each."""
        shards = self._generator(epoch, 0, 0).permutation(len(self.counts))
        return shards, np.cumsum(self.counts[shards])

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *key])))


def _lane_positions_below(position: int, lane: int, lanes: int) -> int:
    """Return how many positions p < `position` have p % lanes == lane."""
    return max(0, -(-(position - lane) // lanes))
