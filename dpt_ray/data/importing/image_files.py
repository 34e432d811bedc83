"""Sets of image files, one image each: what class folders and tables of labels share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from dpt_ray.core.row_random import derive_seed
from dpt_ray.data.importing.file_sets import ARCHIVE_ENDINGS
from dpt_ray.data.importing.import_plan import Ignored, ImageSet, RawImage, Recipe, Unread, ranges
from dpt_ray.data.importing.litter import why_passed_over
from dpt_ray.data.importing.other_formats import FIRST_BYTES, recognise
from dpt_ray.data.importing.sniffing import sniff_files
from dpt_ray.data.importing.tree import BROKEN, FileEntry
from dpt_ray.data.shards.keys import extension, file_keys, has_image_name, is_text
from dpt_ray.data.shards.samples import IMAGE_EXTENSIONS, sha256
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.text import printable

_READ_TOGETHER = 16
"""Files that a worker fetches at the same time: stores answer slowly, and images are small."""


class LabelledFile(NamedTuple):
    """An image file: its path below the folder, size in bytes, key, and class id (None: unlabelled)."""

    name: str
    size: int | None
    key: str
    label: int | None


@dataclass(frozen=True)
class FileSet(ImageSet):
    """Images that are files of their own, mixed over classes."""

    files: tuple[LabelledFile, ...]

    def planned_labels(self) -> frozenset[int]:
        """Return the class ids of the files."""
        return frozenset(file.label for file in self.files if file.label is not None)

    def recipes(self, images_per_shard: int) -> list[Recipe]:
        """Return the files of each shard, in an order that depends on their keys alone."""
        mixed = sorted(self.files, key=lambda file: (derive_seed("shard order", file.key), file.key))
        return [
            {"images": stop - start, "files": [list(file) for file in mixed[start:stop]]}
            for start, stop in ranges(len(mixed), images_per_shard)
        ]


def label_files(entries: Sequence[FileEntry], labels: Iterable[int | None]) -> tuple[LabelledFile, ...]:
    """Give files their keys and labels."""
    keys = file_keys([entry["name"] for entry in entries])
    return tuple(
        LabelledFile(entry["name"], entry["size"], key, label)
        for entry, key, label in zip(entries, keys, labels, strict=True)
    )


class SortedFiles(NamedTuple):
    """What the files below a folder are.

    Attributes:
        images: can be read, as far as names and beginnings tell.
        refused: images that cannot be used.
        ignored: everything else.
    """

    images: list[FileEntry]
    refused: list[Skipped]
    ignored: list[Ignored]


def sort_out(entries: Sequence[FileEntry], look_into: Callable[[str], bool] = lambda name: True) -> SortedFiles:
    """Divide files into images, images that cannot be used, and files that are none.

    A file with an image's name is an image. Others are looked into, since a name proves nothing.

    Args:
        entries: what `list_tree` found.
        look_into: whether a file whose name is not an image's is worth a look.
    """
    named, unnamed, ignored = [], [], []
    refused: list[Skipped] = []
    for entry in entries:
        name = entry["name"]
        if reason := why_passed_over(name):
            ignored.append(Ignored(printable(name), reason, document=True))
        elif "special" in entry:
            ignored.append(Ignored(printable(name), f"is {entry['special']}"))
        elif entry.get("broken"):
            if has_image_name(name):
                refused.append(Skipped(printable(entry["url"]), None, BROKEN))
            else:
                ignored.append(Ignored(printable(name), BROKEN))
        elif has_image_name(name):
            named.append(entry)
        elif look_into(name):
            unnamed.append(entry)
        else:
            ignored.append(Ignored(printable(name), _why_not(name)))
    sniffed = sniff_files(unnamed)
    images = []
    for entry in sorted([*named, *sniffed.images], key=lambda entry: entry["name"]):
        if reason := _unusable_name(entry["name"]):
            refused.append(Skipped(printable(entry["url"]), None, reason))
        else:
            images.append(entry)
    return SortedFiles(images, refused + sniffed.refused, ignored + sniffed.ignored)


def _why_not(name: str) -> str:
    if name.lower().endswith((".tar", *ARCHIVE_ENDINGS)):
        return "an archive, which is not read here; unpack it, or set data.format=shards if it is a shard"
    return "not an image by its name"


def _unusable_name(name: str) -> str | None:
    if not is_text(name):
        return "has a name that is not UTF-8 text"
    if "" in name.split("/") or "\0" in name:
        return "has a name that no archive can hold"
    return None


def hash_listing(entries: Iterable[FileEntry], *others: Any) -> str:
    """Return a hash of files' names, sizes and change marks, and of `others`."""
    parts = [repr((entry["name"], entry["size"], entry["changed"])) for entry in entries]
    return sha256("\n".join([*parts, *map(repr, others)]).encode(errors="surrogateescape"))[:16]


def read_files(settings: dict[str, Any], recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a recipe in its order; a file that is gone or has changed is listed."""
    folder = settings["location"]
    yield from _pool().map(lambda file: _read_file(folder, LabelledFile(*file)), recipe["files"])


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the process's own threads for reading; each keeps its connection to an object store."""
    return ThreadPoolExecutor(_READ_TOGETHER, thread_name_prefix="read")


def _read_file(folder: str, file: LabelledFile) -> RawImage | Skipped:
    url = stores.join(folder, file.name)
    try:  # some stores don't give sizes; where one is known, no more is read, however long the file has become
        data = stores.read_bytes(url) if file.size is None else stores.read_range(url, 0, file.size + 1)
    except StoreFailureError:
        raise
    except UserError as error:
        return unread(url, error.what)
    if file.size is not None and len(data) != file.size:
        now = len(data) if len(data) < file.size else "more"
        return unread(url, f"held {file.size} bytes when listed, {now} when read")
    if foreign := recognise(data[:FIRST_BYTES]):
        return Skipped(printable(url), None, f"is not an image but {foreign[0]}; {foreign[1]}")
    ending = extension(file.name)
    known = ending if ending in IMAGE_EXTENSIONS else None  # otherwise the content decides what a shard calls it
    return RawImage(printable(url), file.key, data, file.label, known, own_file=True)


def unread(url: str, reason: str, images: int = 1) -> Unread:
    """Return the entry for what could not be fetched of a file.

    Raises:
        UserError: the whole store does not answer; then nothing is known of the images in it.
    """
    stores.exists(url)
    return Unread(printable(url), None, reason, images)
