"""Reads segments of an image source, and others in place of what is damaged."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.fetches import Fetch, fetches_of
from dpt_ray.data.loading.one_ahead import one_ahead
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.read_rows import Allocate
from dpt_ray.data.loading.segment_source import Shards
from dpt_ray.data.loading.source import SourceShard
from dpt_ray.data.shards.image_ranges import fetch_images, images_differ
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.shards.stored_latents import LatentForm
from dpt_ray.data.shards.stored_layouts import read_layout
from dpt_ray.errors import StoreFailureError, UserError

OnUnreadable = Callable[[Skipped], None]
"""Receives the entry of a shard or an image that cannot be read, and may raise."""


def read_segment(
    source: Shards, segment: Segment, allocate: Allocate, on_unreadable: OnUnreadable | None
) -> Iterator[Columns]:
    """Yield a segment of a source as blocks; see `read_segments`."""
    return read_segments([(source, segment)], allocate, on_unreadable)


def read_segments(
    reads: Iterable[tuple[Shards, Segment]],
    allocate: Allocate,
    on_unreadable: OnUnreadable | None,
    *,
    fetch_ahead: bool = False,
) -> Iterator[Columns]:
    """Yield segments, each of its source, one after another as blocks; see `FetchedRows.blocks`.

    Rows of the next readable shard replace those that cannot be read, so that the number of images and the position to
    resume from do not change. Where only some images are damaged, only these are replaced. So what is read does not
    depend on how a shard is divided into segments.

    Args:
        reads: sources, and rows of one of their shards.
        allocate: see `FetchedRows.blocks`. It is called again for the first block where a shard turns out to be
            unreadable.
        on_unreadable: receives the entry of each unreadable shard or image. If None, such a shard raises.
        fetch_ahead: fetch what comes next in a thread, while the caller decodes: a store's latency is hidden then.

    Raises:
        StoreFailureError: the store does not answer.
        UserError: a shard cannot be read and `on_unreadable` is None, or no shard can be read.
    """
    fetches: Iterator[Fetch] = (fetch for source, segment in reads for fetch in fetches_of(source, segment))
    if fetch_ahead:
        fetches = one_ahead(fetch.done_ahead() for fetch in fetches)
    for fetch in fetches:
        yield from _Reader(fetch.source, allocate, on_unreadable).read(fetch)


class _Reader:
    """Reads rows of a source's shards, and other rows in their place."""

    def __init__(self, source: Shards, allocate: Allocate, on_unreadable: OnUnreadable | None):
        self._source, self._allocate, self._on_unreadable = source, allocate, on_unreadable

    def read(self, fetch: Fetch) -> Iterator[Columns]:
        """Yield rows of a shard as blocks. Rows of the next shards replace those that cannot be read."""
        for candidate in fetch.candidates():
            shard = self._source.shard(candidate.number, candidate.rows)
            # Only the first block is guarded: replacing a shard after some of its rows were yielded would shift the
            # order.
            try:
                blocks = candidate.rows_of(shard).blocks(self._allocate)
                block = next(blocks)
            except StoreFailureError:
                raise
            except UserError as error:
                if self._on_unreadable is None:
                    raise
                wanted = candidate.numbers_in(shard)
                intact = self._intact(shard, wanted)
                if not any(intact) or (all(intact) and not fetch.whole):  # the images are not what is damaged
                    self._on_unreadable(Skipped(shard.url, None, _reason(shard, error), shard.num_rows))
                    continue
                yield from self._mixed(candidate.number, wanted, intact)
                return
            yield block
            yield from blocks
            return
        raise UserError(f"none of {self._source.num_shards} shards can be read", where=self._source.shard(0).url)

    def _intact(self, shard: SourceShard, wanted: Sequence[int]) -> list[bool]:
        """Return which rows of a shard can be read although others cannot, and list the others."""
        lost = [False] * len(wanted)
        if isinstance(self._source.form, LatentForm):
            return lost
        try:
            layout = read_layout(shard.info)
            samples = shard.samples_of(wanted)
            found = {} if layout is None else fetch_images(shard.info, layout, samples)
        except StoreFailureError:
            raise
        except UserError:
            return lost
        if layout is None or not found or self._on_unreadable is None:
            return lost
        for sample in sorted(set(samples) - found.keys()):
            key = layout.key(sample)
            self._on_unreadable(Skipped(shard.url, key, images_differ(shard.info, [key]).what))
        return [sample in found for sample in samples]

    def _mixed(self, number: int, wanted: Sequence[int], intact: Sequence[bool]) -> Iterator[Columns]:
        """Yield the intact ones among rows of a shard, and rows of the next shard in place of the others."""
        for is_intact, places in groupby(range(len(wanted)), key=intact.__getitem__):
            rows = [wanted[place] for place in places]
            shard = number if is_intact else (number + 1) % self._source.num_shards
            yield from self.read(Fetch(self._source, shard, rows, whole=False))


def _reason(shard: SourceShard, error: UserError) -> str:
    in_shard = error.where is None or error.where.startswith(shard.url)
    return error.what if in_shard else f"{error.where} {error.what}"
