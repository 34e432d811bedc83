"""The fetches of a segment of an image source.

A shard is fetched whole, and compared with its checksum, if most of it is needed. Otherwise the images are fetched,
and compared with the checksums of its stored layout. So lanes that share a shard fetch it once together, and the memory
of a reader is bounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.read_rows import FetchedRows, fetch_rows
from dpt_ray.data.loading.segment_source import Shards
from dpt_ray.data.loading.source import SourceShard
from dpt_ray.data.shards.image_ranges import FETCH_BYTES, split_rows
from dpt_ray.data.shards.stored_latents import LatentForm
from dpt_ray.data.shards.stored_layouts import read_layout
from dpt_ray.errors import UserError

MOST_WHOLE_BYTES = 128 * 2**20
"""Length of the largest shard that is fetched whole although its images can be fetched singly, or that is fetched ahead
of its turn."""


@dataclass(frozen=True)
class Fetch:
    """Rows of a shard that are fetched at once, by one reader.

    Attributes:
        source: the source.
        number: number of the shard.
        rows: numbers of rows of that shard. In another one they are counted round.
        whole: whether the shard is fetched whole.
        ahead: the rows, or the error of fetching them; None if nothing was fetched yet.
    """

    source: Shards
    number: int
    rows: Sequence[int]
    whole: bool
    ahead: FetchedRows | UserError | None = None

    def done_ahead(self) -> "Fetch":
        """Return the fetch with its rows in memory, unless they are too large to be there beside others."""
        shard = self.source.shard(self.number, self.rows)
        if self.whole and shard.info.bytes > MOST_WHOLE_BYTES:
            return self
        try:
            return replace(self, ahead=self._fetch(shard))
        except UserError as error:
            return replace(self, ahead=error)

    def rows_of(self, shard: SourceShard) -> FetchedRows:
        """Return the rows of one of the source's shards.

        Raises:
            UserError: see `fetch_rows`.
        """
        if isinstance(self.ahead, UserError):
            raise self.ahead
        return self.ahead or self._fetch(shard)

    def _fetch(self, shard: SourceShard) -> FetchedRows:
        return fetch_rows(shard, self.numbers_in(shard), self.source.form, self.source.columns, whole=self.whole)

    def numbers_in(self, shard: SourceShard) -> list[int]:
        """Return the numbers of the rows in one of the source's shards."""
        return [row % shard.num_rows for row in self.rows]

    def candidates(self) -> Iterator["Fetch"]:
        """Yield the fetch, then the same one of each further shard of the source."""
        yield self
        for step in range(1, self.source.num_shards):
            yield replace(self, number=(self.number + step) % self.source.num_shards, ahead=None)


def fetches_of(source: Shards, segment: Segment) -> Iterator[Fetch]:
    """Yield the fetches of a segment, in the order of its rows."""
    shard = source.shard(segment.shard)
    if fetches_whole(shard, len(segment)):
        yield Fetch(source, segment.shard, range(segment.start, segment.stop), whole=True)
        return
    for short in split_segment(source, segment):
        yield Fetch(source, short.shard, range(short.start, short.stop), whole=False)


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
