"""Batches of a shard's decoded images, decoded ahead by threads where a GPU computes meanwhile."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.shard_samples import decode_samples
from dpt_ray.data.shards.index import ShardInfo
from dpt_ray.data.shards.samples import Sample

THREADS = 4
"""Threads that decode beside a GPU; decoders release Python's lock."""
_AHEAD = 2
"""Batches that are decoded ahead."""


class DecodedBatch(NamedTuple):
    """Consecutive samples of a shard, and their images, uint8 (N, C, H, W)."""

    samples: Sequence[Sample]
    images: np.ndarray


def decoded_batches(
    samples: Sequence[Sample], form: ImageForm, shard: ShardInfo, batch: int, device: str
) -> Iterator[DecodedBatch]:
    """Yield the samples of a shard in their order, `batch` at a time.

    Args:
        samples: samples of the shard.
        form: size and channels of the decoded images.
        shard: the shard's entry in its index.
        batch: images of a batch; the last one may be smaller.
        device: the device that computes. On a CPU nothing is decoded ahead, since every core computes.

    Raises:
        UserError: an image cannot be read.
    """
    batches = [samples[start : start + batch] for start in range(0, len(samples), batch)]
    if device == "cpu":
        for together in batches:
            yield DecodedBatch(together, decode_samples(together, form, shard))
        return
    pool = ThreadPoolExecutor(THREADS)
    waiting: deque[tuple[DecodedBatch, list[Future[np.ndarray]]]] = deque()
    try:
        for together in batches:
            waiting.append(_begin(pool, together, form, shard))
            if len(waiting) > _AHEAD:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(
    pool: ThreadPoolExecutor, samples: Sequence[Sample], form: ImageForm, shard: ShardInfo
) -> tuple[DecodedBatch, list[Future[np.ndarray]]]:
    """Let the threads decode equal shares of a batch into one array."""
    images = np.empty((len(samples), *form.shape), form.dtype)
    share = -(-len(samples) // THREADS)
    shares = [slice(start, start + share) for start in range(0, len(samples), share)]
    return DecodedBatch(samples, images), [
        pool.submit(decode_samples, samples[rows], form, shard, images[rows]) for rows in shares
    ]


def _finished(decoded: DecodedBatch, shares: list[Future[np.ndarray]]) -> DecodedBatch:
    for share in shares:
        share.result()
    return decoded
