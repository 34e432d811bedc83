"""Reads segments of an image source: what is fetched for them, and what takes the place of that which is damaged.

A shard is fetched whole, and compared with its checksum, if most of it is needed. Otherwise the images are fetched,
and compared with the checksums of its stored layout. So lanes that share a shard fetch it once together, and the memory
of a reader is bounded.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from dpt_ray.data.loading.batches import Columns
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.read_rows import Allocate, read_rows
from dpt_ray.data.loading.segment_source import Shards
from dpt_ray.data.loading.source import SourceShard
from dpt_ray.data.shards.image_ranges import FETCH_BYTES, fetch_images, images_differ, split_rows
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.shards.stored_latents import LatentForm
from dpt_ray.data.shards.stored_layouts import read_layout
from dpt_ray.errors import StoreFailureError, UserError

MOST_WHOLE_BYTES = 128 * 2**20
"""Length of the largest shard that is fetched whole although its images can be fetched singly."""

OnUnreadable = Callable[[Skipped], None]
"""Receives the entry of a shard or an image that cannot be read, and may raise."""


def read_segment(
    source: Shards, segment: Segment, allocate: Allocate, on_unreadable: OnUnreadable | None
) -> Iterator[Columns]:
    """Yield a segment of a source as blocks; see `read_rows`.

    Rows of the next readable shard replace those that cannot be read, so that the number of images and the position to
    resume from do not change. Where only some images are damaged, only these are replaced. So what is read does not
    depend on how a shard is divided into segments.

    Args:
        source: the source.
        segment: rows of one of its shards.
        allocate: see `read_rows`. It is called again for the first block where a shard turns out to be unreadable.
        on_unreadable: receives the entry of each unreadable shard or image. If None, such a shard raises.

    Raises:
        StoreFailureError: the store does not answer.
        UserError: the shard cannot be read and `on_unreadable` is None, or no shard can be read.
    """
    reader = _Reader(source, allocate, on_unreadable)
    shard = source.shard(segment.shard)
    if fetches_whole(shard, len(segment)):
        yield from reader.read(segment.shard, range(segment.start, segment.stop), whole=True)
        return
    for short in split_segment(source, segment):
        yield from reader.read(short.shard, range(short.start, short.stop), whole=False)


def fetches_whole(shard: SourceShard, rows: int) -> bool:
    """Whether a shard is fetched whole for a number of its rows: at most half as much again as is needed."""
    info = shard.info
    return info.layouts is None or (2 * info.samples <= 3 * rows and info.bytes <= MOST_WHOLE_BYTES)


def split_segment(source: Shards, segment: Segment) -> Iterator[Segment]:
    """Yield a segment as consecutive ones, for each of which at most `FETCH_BYTES` are fetched."""
    shard = source.shard(segment.shard)
    if isinstance(source.form, LatentForm):
        yield from segment.split(max(1, FETCH_BYTES // source.form.num_bytes))
    elif (layout := read_layout(shard.info)) is None:
        yield segment
    else:
        for rows in split_rows(layout, shard.samples_of(range(segment.start, segment.stop))):
            yield Segment(segment.shard, segment.start + rows.start, segment.start + rows.stop)


class _Reader:
    """Reads rows of a source's shards, and other rows in their place."""

    def __init__(self, source: Shards, allocate: Allocate, on_unreadable: OnUnreadable | None):
        self._source, self._allocate, self._on_unreadable = source, allocate, on_unreadable

    def read(self, first: int, rows: Sequence[int], *, whole: bool) -> Iterator[Columns]:
        """Yield rows of a shard as blocks, or those of the next shards for those that cannot be read.

        Args:
            first: number of the shard.
            rows: numbers of rows of that shard. In another one they are counted round.
            whole: whether the shard is fetched whole.
        """
        count = self._source.num_shards
        for number in ((first + step) % count for step in range(count)):
            shard = self._source.shard(number, rows)
            wanted = [row % shard.num_rows for row in rows]
            blocks = read_rows(shard, wanted, self._source.form, self._allocate, self._source.columns, whole=whole)
            # Only the first block is guarded: replacing a shard after some of its rows were yielded would shift the
            # order.
            try:
                block = next(blocks)
            except StoreFailureError:
                raise
            except UserError as error:
                if self._on_unreadable is None:
                    raise
                intact = self._intact(shard, wanted)
                if not any(intact) or (all(intact) and not whole):  # the images are not what is damaged
                    self._on_unreadable(Skipped(shard.url, None, _reason(shard, error), shard.num_rows))
                    continue
                yield from self._mixed(number, wanted, intact)
                return
            yield block
            yield from blocks
            return
        raise UserError(f"none of {count} shards can be read", where=self._source.shard(0).url)

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
            yield from self.read(number if is_intact else (number + 1) % self._source.num_shards, rows, whole=False)


def _reason(shard: SourceShard, error: UserError) -> str:
    in_shard = error.where is None or error.where.startswith(shard.url)
    return error.what if in_shard else f"{error.where} {error.what}"
