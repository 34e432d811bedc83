"""Shards that were written from images, and what was left out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from dpt_ray.data.images.white_level import WhiteLevel
from dpt_ray.data.importing.facts import ImageSizes
from dpt_ray.data.importing.import_plan import Ignored, missed_first
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage.json_records import Record
from dpt_ray.errors import UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.pipeline.artifacts.step_facts import Facts, ShardFile
from dpt_ray.pipeline.artifacts.store import Artifact

NAMED_IN_FACTS = 10
NAMED_IN_LINE = 3
"""Largest number of files that the summary of a finished step names."""

SHARDS = "shards"
"""Folder of the shards in the artifact."""
LEFT_OUT_FILE = "left_out.csv"
"""Name of the table of refused images and ignored files."""


@dataclass(frozen=True)
class WrittenShard(Record):
    """A shard: its file's name, size and checksum in hexadecimal digits, and its number of images."""

    name: str
    bytes: int
    sha256: str
    images: int


@dataclass(frozen=True)
class IgnoredFiles:
    """Files beside the images that belong to none.

    Attributes:
        files: their number.
        first: name and reason of the first of them.
    """

    files: int
    first: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class ShardsFacts(Facts):
    """The facts of `ImportedShards`.

    Attributes:
        images: images in the shards.
        unlabelled: images without a label.
        files: the shards.
        bytes: size of all shards.
        class_names: names of the classes; None if the data does not name them.
        images_per_class: images of each class.
        sizes: width and height of some images; None without images.
        notes: what people should know about how the images were read, a sentence each.
        ignored: files beside the images; None in artifacts of older versions.
        levels: the white level; None if no image has more than 8 bits.
        images_in: images that were found.
        skipped: those that cannot be used.
    """

    images: int
    unlabelled: int = 0
    files: tuple[WrittenShard, ...]
    bytes: int
    class_names: tuple[str, ...] | None
    images_per_class: tuple[int, ...]
    sizes: ImageSizes | None = None
    notes: tuple[str, ...] = ()
    ignored: IgnoredFiles | None = None
    levels: WhiteLevel | None
    images_in: int = 0
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShardRecord(ShardFile):
    """What a worker reports of one shard; the worker also keeps it as a file, without `url`, `bytes` and `sha256`.

    Attributes:
        shard: the shard; None if no image can be used.
        classes: class id -> images of it.
        refused_classes: class ids of images that cannot be used.
        sizes: width, height, and images of that size.
        deep: number of images of more than 8 bits, and the largest value in them.
        white: the white level that the shard was written with.
        unread: images that could not be fetched, which another attempt may be able to fetch.
    """

    shard: WrittenShard | None = None
    classes: dict[int, int] = field(default_factory=dict)
    refused_classes: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int, int], ...] = ()
    deep: tuple[int, int] = (0, 0)
    white: int | None = None
    unread: int = 0


@dataclass(frozen=True)
class WrittenShards:
    """What the workers report of all shards.

    Attributes:
        records: those of the shards in order, without the numbers that are added up below.
        classes: class id -> images of it.
        refused_classes: class ids of images that cannot be used.
        sizes: width and height -> images of that size.
    """

    records: list[ShardRecord]
    classes: Counter[int]
    refused_classes: set[int]
    sizes: Counter[tuple[int, int]]

    @classmethod
    def add_up(cls, reports: Iterable[JsonObject]) -> "WrittenShards":
        """Go through the reports once; the classes and sizes of one shard at a time are in memory."""
        whole = cls([], Counter(), set(), Counter())
        for record in map(ShardRecord.from_json, reports):
            whole.classes.update(record.classes)
            whole.refused_classes.update(record.refused_classes)
            for width, height, count in record.sizes:
                whole.sizes[width, height] += count
            whole.records.append(replace(record, classes={}, refused_classes=(), sizes=()))
        return whole


def ignored_files(ignored: Sequence[Ignored]) -> IgnoredFiles:
    """Return what an artifact's facts keep of files that are no part of it."""
    first = missed_first(ignored)[:NAMED_IN_FACTS]
    return IgnoredFiles(len(ignored), tuple((entry.name, entry.reason) for entry in first))


def say_ignored(ignored: Sequence[Ignored]) -> str:
    """Name ignored files in a few words; return an empty text if there are none."""
    if not ignored:
        return ""
    first = ", ".join(f"{entry.name} ({entry.reason})" for entry in missed_first(ignored)[:NAMED_IN_LINE])
    more = f" and {len(ignored) - NAMED_IN_LINE:,} more" if len(ignored) > NAMED_IN_LINE else ""
    return f"; ignored: {first}{more}"


def shard_urls(artifact: Artifact) -> list[str]:
    """Return the URLs of the shards of a finished `ImportedShards` in their order."""
    return [artifact.file(SHARDS, shard.name) for shard in ShardsFacts.read(artifact).files]


def lost_classes(labels: Sequence[int], names: Sequence[str] | None, where: str) -> UserError:
    """Return the error about classes of which no image can be used."""
    called = [repr(names[label]) if names else str(label) for label in labels[:NAMED_IN_LINE]]
    more = f" and {len(labels) - NAMED_IN_LINE:,} more" if len(labels) > NAMED_IN_LINE else ""
    return UserError(
        f"all images of the class {' and of '.join(called)}{more} had to be left out, so the class would be lost",
        where=where,
        fix="mend its images, or remove the class; data.on_error=fail names the first image with its fault",
    )
