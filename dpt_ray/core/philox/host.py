"""Philox4x64-10 on the CPU, by numpy's implementation in C."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dpt_ray.core.philox.distribution import ANGLE, FRACTION, FRACTION_MASK, Distribution, words_of

_CHUNK = 8192
"""Words that are transformed together: their buffers fit the second-level cache."""


class _Local(threading.local):
    """A generator for each thread, since setting its counter and drawing from it are two calls."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)
        self.counter, self.key = [0, 0, 0, 0], [0, 0]
        self.state: Any = {
            "bit_generator": "Philox",
            "state": {"counter": self.counter, "key": self.key},
            "buffer": [0, 0, 0, 0],
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }


_LOCAL = _Local()


def draw(seeds: Sequence[int], index: int, count: int, distribution: Distribution, high: int = 0) -> np.ndarray:
    """Draw `count` numbers from each stream.

    Args:
        seeds: the streams' seeds, in [0, 2^63).
        index: index of the draw, >= 0.
        count: numbers of each stream.
        distribution: their distribution.
        high: bound of integers, in 1..2^31; for integers only.

    Returns:
        (streams, count): int64 for integers, otherwise float32.
    """
    words = words_of(distribution, count)
    per_word = 1 if distribution == "integers" else 2
    numbers = np.empty(len(seeds) * words * per_word, np.int64 if per_word == 1 else np.float32)
    start = 0
    for piece in _pieces(seeds, index, words):
        out = numbers[start : start + len(piece) * per_word]
        if distribution == "integers":
            _integers(piece, high, out)
        elif distribution == "uniform":
            _uniform(piece, out)
        else:
            _normal(piece, out)
        start += len(out)
    rows = numbers.reshape(len(seeds), words * per_word)
    return rows if rows.shape[1] == count else np.ascontiguousarray(rows[:, :count])


def _pieces(seeds: Sequence[int], index: int, words: int) -> Iterator[np.ndarray]:
    """Yield the words of all streams in order, uint64, about `_CHUNK` at a time."""
    local = _LOCAL
    philox, key, state = local.philox, local.key, local.state
    # numpy increments the counter before each block, so the first block has the counter (1, index, 0, 0).
    local.counter[1] = index
    waiting: list[np.ndarray] = []
    for seed in seeds:
        key[0] = seed
        philox.state = state
        for first in range(0, words, _CHUNK):
            waiting.append(philox.random_raw(min(_CHUNK, words - first)))
            if len(waiting) * words >= _CHUNK:
                yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _integers(words: np.ndarray, high: int, out: np.ndarray) -> None:
    factor, half = np.uint64(high), np.uint64(32)
    carry = (words & np.uint64(0xFFFFFFFF)) * factor >> half
    np.right_shift((words >> half) * factor + carry, half, out=out.view(np.uint64))


def _uniform(words: np.ndarray, out: np.ndarray) -> None:
    out[:] = _fractions(words)
    out *= np.float32(FRACTION)


def _normal(words: np.ndarray, out: np.ndarray) -> None:
    fractions = _fractions(words)
    # sqrt(-2 log u) with u in (0, 1]; contiguous, so that each step is vectorised.
    radius = fractions[::2].astype(np.float32)
    radius += np.float32(1)
    radius *= np.float32(FRACTION)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle = fractions[1::2].astype(np.float32)
    angle *= np.float32(ANGLE)
    np.multiply(np.cos(angle), radius, out=out[::2])
    np.multiply(np.sin(angle, out=angle), radius, out=out[1::2])


def _fractions(words: np.ndarray) -> np.ndarray:
    """Return the low 24 bits of each half of the words, low half first: int32 (2 N,), in the words' memory."""
    halves = words.view(np.int32)
    halves &= np.int32(FRACTION_MASK)
    return halves
