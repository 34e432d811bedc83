"""What a reader of one segment receives of an image source: the entry of its shard, cut to its rows.

A reader that got the whole source would unpickle the entries of a hundred thousand shards to read one of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from dpt_ray.data.images.decoding import ImageForm
from dpt_ray.data.loading.order import Segment
from dpt_ray.data.loading.source import ImageSource, SourceShard
from dpt_ray.data.shards.stored_latents import LatentForm


class Shards(Protocol):
    """What a reader of segments needs of a source; an `ImageSource` has it."""

    @property
    def form(self) -> ImageForm | LatentForm:
        """The form of its images or latents."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the further columns of its label sidecars."""

    @property
    def num_shards(self) -> int:
        """Number of shards."""

    def shard(self, number: int, rows: Sequence[int] = ()) -> SourceShard:
        """Return a shard from which `rows` are read; those are counted round in a shard with fewer rows."""


@dataclass(frozen=True)
class CutShard(SourceShard):
    """A shard with the entries of some consecutive rows. Rows keep their numbers.

    Attributes:
        first: number of the first row whose entries are here.
        all_rows: number of rows that the source uses of the shard.
    """

    first: int = 0
    all_rows: int = 0

    @property
    def num_rows(self) -> int:
        """Number of images that the source uses of this shard."""
        return self.all_rows

    def samples_of(self, rows: Sequence[int]) -> list[int]:
        """Return the numbers of samples of the shard, given those of rows whose entries are here."""
        return super().samples_of(rows if self.rows is None else [row - self.first for row in rows])

    def labels_of(self, rows: Sequence[int]) -> list[int]:
        """Return the class ids of rows whose entries are here."""
        return super().labels_of([row - self.first for row in rows])


def cut(shard: SourceShard, start: int, stop: int) -> SourceShard:
    """Return a shard without the entries of rows outside [start, stop)."""
    if shard.rows is None and shard.labels is None:
        return shard
    values = {field.name: getattr(shard, field.name) for field in fields(SourceShard)}
    for name in ("rows", "labels"):
        values[name] = values[name][start:stop] if values[name] is not None else None
    return CutShard(**values, first=start, all_rows=shard.num_rows)


@dataclass(frozen=True)
class SegmentSource:
    """The shard of one segment, and a way to the others, which are read only in place of what cannot be read.

    Attributes:
        form: see `Shards`.
        columns: see `Shards`.
        num_shards: see `Shards`.
        segment: the segment.
        own: its shard, cut to the segment.
        whole: returns the whole source.
    """

    form: ImageForm | LatentForm
    columns: tuple[str, ...]
    num_shards: int
    segment: Segment
    own: SourceShard
    whole: Callable[[], ImageSource]

    def shard(self, number: int, rows: Sequence[int] = ()) -> SourceShard:
        """Return a shard from which `rows` are read."""
        total = self.own.num_rows
        is_here = all(self.segment.start <= row % total < self.segment.stop for row in rows)
        return self.own if number == self.segment.shard and is_here else self.whole().shards[number]
