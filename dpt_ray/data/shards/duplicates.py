"""Finds images of a large set that a smaller set also holds, exactly or nearly, by their hashes.

The smaller set's hashes are held in memory, and compared with those of the larger set shard by shard. Near-duplicates
are found by multi-index hashing (Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing",
2012): if two words of 64 bits differ in at most 7 bits, one of their four quarters differs in at most one bit. So each
quarter is looked up as it is and with each of its bits flipped, and only the words found in this way are compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpt_ray.data.images.perceptual_hash import ImageHashes, is_comparable

_QUARTERS, _QUARTER_BITS = 4, 16
_QUARTER = np.uint64(0xFFFF)
_FLIPPED = np.array([0, *(1 << bit for bit in range(_QUARTER_BITS))], np.int64)
"""Masks whose exclusive or with a quarter yields all values that differ from it in at most one bit."""
_MOST_PAIRS = 2**20
"""Pairs whose hashes are compared at a time; bounds memory."""


@dataclass(frozen=True)
class Limits:
    """The most bits in which the perceptual hashes of near-duplicates differ.

    Attributes:
        coarse: bits of the first word, at most 7.
        fine: bits of all words.
    """

    coarse: int
    fine: int


def limits_for(side: int) -> Limits:
    """Return the limits for images of `side` x `side` pixels, as docs/results/studies/duplicates.md explains.

    The hash of an image below 16 pixels has fewer bits, so fewer of them may differ.
    """
    return Limits(7, 60) if side >= 16 else Limits(3, 60)


@dataclass(frozen=True)
class Pair:
    """An image of the larger set and an equal or nearly equal image of the smaller set.

    Attributes:
        bits: number of bits in which their perceptual hashes differ; None if all their pixels are equal.
        shard: number of the larger set's shard.
        row: row of the first image in that shard.
        held_row: row of the other image in the smaller set.
    """

    bits: int | None
    shard: int
    row: int
    held_row: int


@dataclass
class Found:
    """The pairs of one kind, exact or near.

    Attributes:
        held: which images of the smaller set are in a pair, bool (N,).
        images: number of images of the larger set that are in a pair.
        pairs: number of pairs.
        listed: the first pairs.
    """

    held: np.ndarray
    images: int = 0
    pairs: int = 0
    listed: list[Pair] = field(default_factory=list)


class DuplicateSearch:
    """Compares shards of a large set with a smaller set.

    Args:
        held: hashes of the smaller set.
        limits: the most bits in which hashes of near-duplicates differ.
        most_listed: most listed pairs of each kind; all pairs are counted.

    Attributes:
        exact: pairs with equal pixels.
        near: pairs with similar perceptual hashes and different pixels.
        not_compared: number of images of the larger set without a perceptual hash.
    """

    def __init__(self, held: ImageHashes, limits: Limits, most_listed: int):
        self._held, self._limits, self._most_listed = _Groups(held), limits, most_listed
        self._comparable = np.flatnonzero(is_comparable(self._held.perceptual))
        self._words = self._held.perceptual[self._comparable]
        self._tables = [_QuarterTable(self._words[:, 0], quarter) for quarter in range(_QUARTERS)]
        self.exact, self.near = (Found(np.zeros(len(held), bool)) for _ in range(2))
        self.not_compared = 0

    def add(self, shard: int, hashes: ImageHashes) -> None:
        """Compare the images of a shard of the larger set with all of the smaller one."""
        groups = _Groups(hashes)
        self.not_compared += int((~is_comparable(hashes.perceptual)).sum())
        exact = ((ours, others, None) for ours, others in self._equal(groups))
        self._count(self.exact, shard, groups, exact)
        self._count(self.near, shard, groups, self._similar(groups))

    def _count(self, found: Found, shard: int, groups: "_Groups", matches: Iterator[tuple[Any, Any, Any]]) -> None:
        seen, held_seen = np.zeros(len(groups), bool), np.zeros(len(self._held), bool)
        for ours, others, bits in matches:
            seen[ours], held_seen[others] = True, True
            found.pairs += int((groups.sizes[ours] * self._held.sizes[others]).sum())
            for place, (group, other) in enumerate(zip(ours.tolist(), others.tolist(), strict=True)):
                if len(found.listed) >= self._most_listed:
                    break
                self._list(found, shard, groups.rows(group), other, None if bits is None else int(bits[place]))
        found.images += int(groups.sizes[seen].sum())
        found.held |= held_seen[self._held.of_row]

    def _list(self, found: Found, shard: int, rows: np.ndarray, other: int, bits: int | None) -> None:
        for row in rows.tolist():
            left = self._most_listed - len(found.listed)
            held_rows = self._held.rows(other)[:left].tolist()
            found.listed += [Pair(bits, shard, row, held_row) for held_row in held_rows]

    def _equal(self, groups: "_Groups") -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield numbers of groups of a shard and of the smaller set with equal pixels, int64 (M,) each."""
        first, held = groups.pixels[:, 0], self._held.pixels[:, 0]
        low, high = np.searchsorted(held, first, "left"), np.searchsorted(held, first, "right")
        for ours, others in _expand(low, high):
            equal = groups.pixels[ours, 1] == self._held.pixels[others, 1]
            yield ours[equal], others[equal]

    def _similar(self, groups: "_Groups") -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield numbers of groups of a shard and of the smaller set with similar hashes, and the bits that differ."""
        comparable = np.flatnonzero(is_comparable(groups.perceptual))
        words = groups.perceptual[comparable]
        for quarter, table in enumerate(self._tables):
            for rows, places in table.find(words[:, 0]):
                difference = words[rows, 0] ^ self._words[places, 0]
                close = np.bitwise_count(difference) <= self._limits.coarse
                rows, places, difference = rows[close], places[close], difference[close]
                close = ~_was_found(difference, quarter)
                rows, places = rows[close], places[close]
                bits = np.bitwise_count(words[rows] ^ self._words[places]).sum(axis=1, dtype=np.int64)
                ours, others = comparable[rows], self._comparable[places]
                close = (bits <= self._limits.fine) & (groups.pixels[ours] != self._held.pixels[others]).any(axis=1)
                yield ours[close], others[close], bits[close]


class _Groups:
    """Groups of images with equal pixels, ordered by pixel hash. A set may hold many copies of an image."""

    def __init__(self, hashes: ImageHashes):
        self.pixels, first, of_row, self.sizes = np.unique(
            hashes.pixels, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        self.perceptual = hashes.perceptual[first]
        self.of_row = of_row.reshape(-1)
        self._rows = np.argsort(self.of_row, kind="stable")
        self._starts = np.cumsum(self.sizes) - self.sizes

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, group: int) -> np.ndarray:
        """Return the rows of a group, in ascending order."""
        return self._rows[self._starts[group] : self._starts[group] + self.sizes[group]]


class _QuarterTable:
    """Finds words of 64 bits by one of their quarters, which may differ in one bit."""

    def __init__(self, words: np.ndarray, quarter: int):
        self._quarter = quarter
        values = _quarter_of(words, quarter)
        self._places = np.argsort(values, kind="stable")
        self._starts = np.searchsorted(values[self._places], np.arange(2**_QUARTER_BITS + 1))

    def find(self, words: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the places of each pair of `words` and table words that may be close, a bounded number at a time."""
        sought = _quarter_of(words, self._quarter)[:, None] ^ _FLIPPED
        sought = sought.reshape(-1)
        for places, found in _expand(self._starts[sought], self._starts[sought + 1]):
            yield places // len(_FLIPPED), self._places[found]


def _quarter_of(words: np.ndarray, quarter: int) -> np.ndarray:
    return ((words >> np.uint64(_QUARTER_BITS * quarter)) & _QUARTER).astype(np.int64)


def _was_found(differences: np.ndarray, quarter: int) -> np.ndarray:
    """Return which pairs an earlier quarter also finds, given the exclusive or of their words; bool (M,)."""
    found = np.zeros(len(differences), bool)
    for earlier in range(quarter):
        found |= np.bitwise_count(_quarter_of(differences, earlier)) <= 1
    return found


def _expand(low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every number of the ranges `low[i]` to `high[i]` with its i, a bounded number of them at a time."""
    ends = np.cumsum(high - low)
    total = int(ends[-1]) if len(ends) else 0
    for start in range(0, total, _MOST_PAIRS):
        flat = np.arange(start, min(start + _MOST_PAIRS, total))
        owner = np.searchsorted(ends, flat, "right")
        yield owner, high[owner] - (ends[owner] - flat)
