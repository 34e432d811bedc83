"""Image files with one image each: the base of the importers of class folders and tables of labels."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from dpt_ray.data.importing.file_entries import FileEntries
from dpt_ray.data.importing.file_sets import ARCHIVE_ENDINGS
from dpt_ray.data.importing.import_plan import Ignored, ImageSet, Location, RawImage, Recipe, Unread
from dpt_ray.data.importing.labelled_files import FileList, FileRecipes, LabelledFile
from dpt_ray.data.importing.litter import why_passed_over
from dpt_ray.data.importing.other_formats import FIRST_BYTES, recognise
from dpt_ray.data.importing.sniffing import sniff_files
from dpt_ray.data.importing.tree import BROKEN, FileEntry
from dpt_ray.data.shards.keys import extension, has_image_name, is_text
from dpt_ray.data.shards.samples import IMAGE_EXTENSIONS
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.json_records import Record
from dpt_ray.errors import StoreFailureError, UserError
from dpt_ray.json_values import JsonObject
from dpt_ray.text import printable

_CONCURRENT_READS = 16
"""Concurrent reads of a worker. They hide the latency of object stores, since image files are small."""


@dataclass(frozen=True)
class _FileRecipe(Record):
    """A recipe for images in files of their own."""

    images: int
    files: tuple[LabelledFile, ...]


@dataclass(frozen=True)
class FileSet(ImageSet):
    """Images in files of their own. Their recipes mix the classes."""

    files: FileList

    def planned_counts(self) -> Mapping[int, int]:
        """Return the number of files of each class id."""
        return self.files.counts()

    def recipes(self, images_per_shard: int) -> Sequence[Recipe]:
        """Return the files of each shard, in a pseudorandom order that depends only on their keys."""
        return FileRecipes(self.files, images_per_shard)


class SortedFiles(NamedTuple):
    """The files below a folder, by what they are.

    Attributes:
        images: files that are images by their names or first bytes.
        refused: images that cannot be used.
        ignored: all other files.
    """

    images: FileEntries
    refused: list[Skipped]
    ignored: list[Ignored]


def sort_out(entries: FileEntries, look_into: Callable[[str], bool] = lambda name: True) -> SortedFiles:
    """Divide files into images, unusable images and other files.

    A file with the name of an image is an image. Other files are identified by their first bytes.

    Args:
        entries: the files that `list_tree` found, sorted by name.
        look_into: whether to read the first bytes of a file, given its name. Applies to names that are not an image's.
    """
    named, unnamed = array("Q"), array("Q")
    refused: list[Skipped] = []
    ignored: list[Ignored] = []
    for place, entry in enumerate(entries):
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
            named.append(place)
        elif look_into(name):
            unnamed.append(place)
        else:
            ignored.append(Ignored(printable(name), _why_not(name)))
    sniffed = sniff_files(entries.at(unnamed))
    found = {entry["name"] for entry in sniffed.images}
    named.extend(place for place in unnamed if entries.name(place) in found)
    if found:
        named = array("Q", sorted(named))  # by name, as the entries are
    images = entries.at(named)
    unusable = {place for place, name in enumerate(images.names()) if _unusable_name(name)}
    for place in sorted(unusable):
        refused.append(Skipped(printable(images[place]["url"]), None, _unusable_name(images.name(place)) or ""))
    if unusable:
        images = images.at(place for place in range(len(images)) if place not in unusable)
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
    """Return a hash of `others` and of the files' names, sizes and change marks (modification time or ETag)."""
    listed = hashlib.sha256()
    separator = b""
    for part in chain((repr((entry["name"], entry["size"], entry["changed"])) for entry in entries), map(repr, others)):
        listed.update(separator + part.encode(errors="surrogateescape"))
        separator = b"\n"
    return listed.hexdigest()[:16]


def read_files(settings: JsonObject, recipe: Recipe) -> Iterator[RawImage | Skipped]:
    """Yield the images of a recipe in its order, and an entry for each file that is missing or has changed."""
    folder = Location.from_json(settings).location
    yield from _pool().map(lambda file: _read_file(folder, file), _FileRecipe.from_json(recipe).files)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the reading threads of this process. They are kept, and with them their connections to object stores."""
    return ThreadPoolExecutor(_CONCURRENT_READS, thread_name_prefix="read")


def _read_file(folder: str, file: LabelledFile) -> RawImage | Skipped:
    url = stores.join(folder, file.name)
    # Some stores do not report sizes. With a known size at most one byte more is read, even if the file has grown.
    try:
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
    known = ending if ending in IMAGE_EXTENSIONS else None  # None: the content decides the extension in the shard
    return RawImage(printable(url), file.key, data, file.label, known, own_file=True)


def unread(url: str, reason: str, images: int = 1) -> Unread:
    """Return the entry for images of a file that could not be fetched.

    Args:
        url: the file.
        reason: why it could not be fetched.
        images: number of images that are lost.

    Raises:
        UserError: the whole store does not answer, so the failure says nothing about this file.
    """
    stores.exists(url)
    return Unread(printable(url), None, reason, images)
