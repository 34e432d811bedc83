"""Image sources through Ray Data: kept decoded in the object store, or streamed.

Both forms give a worker the same rows in the same order (`data/loading/order.py`). The size of the source decides which
form is used. A read task fetches the requested rows, or their whole shards, and decodes them
(`data/loading/segments.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from dpt_ray.core.collective import num_workers
from dpt_ray.data.loading.batches import Columns, ReadSegment
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.segments import OnUnreadable
from dpt_ray.data.loading.source import ImageSource
from dpt_ray.data.storage.stores import is_remote
from dpt_ray.distributed.cluster_nodes import object_store_bytes
from dpt_ray.distributed.datasource import divide_segments, rows_in, segment_dataset
from dpt_ray.distributed.failures import user_error
from dpt_ray.distributed.kept_images import KeptImages
from dpt_ray.distributed.resources import Resources, reserved_cpus, stream_readers
from dpt_ray.distributed.shared_cluster import runs_here, share_cluster
from dpt_ray.distributed.streamed_images import BLOCK_BYTES, TASK_BLOCKS, StreamedImages

REMOTE_READERS = 2
"""Readers for each CPU where shards come over a network: one fetches while another decodes."""


@dataclass(frozen=True)
class PlannedStream:
    """A streamed source whose share of the cluster is found when a training worker opens it.

    So a worker that starts again after the loss of a node gets readers on the nodes that are left.

    Attributes:
        source: the source.
        streams: number of streams of each worker.
        training: the workers of the training as planned; their number is that of those that run.
        runs: number of runs that share the cluster.
        on_unreadable: see `StreamedImages`.
    """

    source: ImageSource
    streams: int
    training: Resources
    runs: int
    on_unreadable: OnUnreadable | None

    def open(self, **arguments: Any) -> ReadSegment:
        """Return what `StreamedImages.open` returns."""
        return self._stream().open(**arguments)

    def blocks(self, **arguments: Any) -> Iterator[Columns]:
        """Yield what `StreamedImages.blocks` yields."""
        return self._stream().blocks(**arguments)

    def _stream(self) -> StreamedImages:
        share_cluster(self.runs)
        training = replace(self.training, processes=num_workers(), cpus=reserved_cpus())
        return _streamed(self.source, self.streams * num_workers(), training, self.on_unreadable)


def is_kept(source: ImageSource, keep_bytes: int) -> bool:
    """Whether a source is small enough to be decoded once and kept; a larger one is streamed."""
    return source.decoded_bytes <= keep_bytes


def open_source(
    source: ImageSource,
    keep_bytes: int,
    *,
    streams: int = 1,
    training: Resources | None = None,
    in_workers: bool = False,
    on_unreadable: OnUnreadable | None = None,
) -> KeptImages | StreamedImages | PlannedStream:
    """Decode and keep a source that is small enough; stream a larger one.

    Args:
        source: the source.
        keep_bytes: largest decoded size, in bytes, of a source that is kept.
        streams: number of streams that run at the same time and share the cluster.
        training: the training that runs beside the streams.
        in_workers: whether its workers open the streams, at each of their starts, and not this process.
        on_unreadable: receives the entry of each unreadable shard, and may raise. If None, such a shard raises.

    Raises:
        UserError: a shard or an image cannot be read. A streamed source raises it while it is read.
    """
    if not is_kept(source, keep_bytes):
        if in_workers and training is not None:
            return PlannedStream(source, max(1, streams // training.processes), training, runs_here(), on_unreadable)
        return _streamed(source, streams, training, on_unreadable)
    whole_shards = [Segment(number, 0, count) for number, count in enumerate(source.counts)]
    try:
        # The source is decoded before training starts, so read tasks may take all CPUs.
        task_rows = min(rows_in(TASK_BLOCKS * BLOCK_BYTES, source), -(-source.num_images // stream_readers()[0]))
        tasks = divide_segments(whole_shards, source, task_rows)
        # Blocks of a node that is lost are decoded again while the training holds its CPUs.
        _, cpus = stream_readers(streams, training)
        dataset = segment_dataset(source, tasks, rows_in(BLOCK_BYTES, source), on_unreadable, cpus)
        return KeptImages(source, dataset.materialize().to_numpy_refs())
    except Exception as error:
        raise user_error(error) or error from error


def _streamed(
    source: ImageSource, streams: int, training: Resources | None, on_unreadable: OnUnreadable | None
) -> StreamedImages:
    readers, cpus = stream_readers(streams, training)
    if is_remote(source.shards[0].url):
        readers, cpus = REMOTE_READERS * readers, cpus / REMOTE_READERS
    return StreamedImages(source, _stream_memory(streams), readers, cpus, on_unreadable)


STREAM_SHARE = 0.4
"""Share of the object store for all streams together. Kept sources and messages need the rest."""

MOST_AHEAD = 2**31
"""Most bytes that one stream prefetches. More would only be read too early."""

ENOUGH_AHEAD = 2**30
"""Bytes to prefetch that keep two readers busy. Clusters are sized for it."""


def _stream_memory(streams: int) -> int:
    share = STREAM_SHARE * object_store_bytes() / max(1, streams)
    return int(min(share, MOST_AHEAD))
