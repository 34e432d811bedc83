"""Sets of image files, one image each: what class folders and tables of labels share."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from dpt_ray.core.random import derive_seed
from dpt_ray.data import stores
from dpt_ray.data.importing.keys import extension, file_keys, has_image_name, is_hidden, is_text, printable
from dpt_ray.data.importing.plan import Ignored, ImageSet, RawImage, Recipe, Unread, ranges
from dpt_ray.data.importing.tree import FileEntry
from dpt_ray.data.shards import sha256
from dpt_ray.data.skipped import Skipped
from dpt_ray.errors import StoreFailureError, UserError

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


def sort_out(entries: Sequence[FileEntry]) -> tuple[list[FileEntry], list[Skipped], list[Ignored]]:
    """Divide files into images, images whose names cannot be used, and files that are none by their name."""
    images, refused, ignored = [], [], []
    for entry in entries:
        name = entry["name"]
        if is_hidden(name):
            ignored.append(Ignored(printable(name), "hidden"))
        elif not has_image_name(name):
            ignored.append(Ignored(printable(name), "not an image by its name"))
        elif entry.get("broken"):
            refused.append(Skipped(printable(entry["url"]), None, "is a link to a file that does not exist"))
        elif not is_text(name):
            refused.append(Skipped(printable(entry["url"]), None, "has a name that is not UTF-8 text"))
        elif "" in name.split("/") or "\0" in name:
            refused.append(Skipped(printable(entry["url"]), None, "has a name that no archive can hold"))
        else:
            images.append(entry)
    return images, refused, ignored


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
    try:
        data = stores.read_bytes(url)
    except StoreFailureError:
        raise
    except UserError as error:
        return unread(url, error.what)
    if file.size is not None and len(data) != file.size:  # some stores don't tell sizes
        return unread(url, f"held {file.size} bytes when listed, {len(data)} when read")
    return RawImage(printable(url), file.key, data, file.label, extension(file.name), own_file=True)


def unread(url: str, reason: str, images: int = 1) -> Unread:
    """Return the entry for what could not be fetched of a file.

    Raises:
        UserError: the whole store does not answer; then nothing is known of the images in it.
    """
    stores.exists(url)
    return Unread(printable(url), None, reason, images)
