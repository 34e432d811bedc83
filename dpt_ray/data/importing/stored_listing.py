"""The listing of a large folder of class folders as a file, and image files that are read from it when they are needed.

The Parquet file has a row for each image file, with `name`, `size` and `label`, and the rest of the listing as JSON in
its metadata. Its name holds the hash of the listing, so that it is never changed.
"""

import io
import json
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpt_ray.data.importing.class_folders import ClassFolders
from dpt_ray.data.importing.file_entries import UNKNOWN, FileEntries
from dpt_ray.data.importing.import_plan import Ignored
from dpt_ray.data.importing.labelled_files import FileList, LabelledFile, LabelledFiles
from dpt_ray.data.shards.skipped import Skipped
from dpt_ray.data.storage import stores
from dpt_ray.data.storage.documents import parse_document
from dpt_ray.data.storage.json_records import Record
from dpt_ray.errors import UserError
from dpt_ray.text import one_line

_HEAD = b"listing"
_UNLABELLED = -1


@dataclass(frozen=True)
class _Head(Record):
    """What a listing holds beside its image files; see `ImageSet`."""

    location: str
    listing: str
    class_names: tuple[str, ...] | None
    refused: tuple[Skipped, ...]
    ignored: tuple[Ignored, ...]
    notes: tuple[str, ...]


class StoredFiles(FileList):
    """The image files of a stored listing, which are read at their first use. It pickles as its place alone.

    Args:
        url: URL of the listing.
        count: number of its image files.
    """

    def __init__(self, url: str, count: int):
        self._url, self._count = url, count

    def __reduce__(self) -> tuple[type["StoredFiles"], tuple[str, int]]:
        return StoredFiles, (self._url, self._count)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> LabelledFile: ...
    @overload
    def __getitem__(self, place: slice) -> list[LabelledFile]: ...
    def __getitem__(self, place: int | slice) -> LabelledFile | list[LabelledFile]:
        return self.read[place]

    def __iter__(self) -> Iterator[LabelledFile]:
        return iter(self.read)

    def all_keys(self) -> Iterator[str]:
        """Yield the keys of all files."""
        return self.read.all_keys()

    def counts(self) -> Counter[int]:
        """Return the number of files of each class id."""
        return self.read.counts()

    @cached_property
    def read(self) -> LabelledFiles:
        """The files.

        Raises:
            UserError: the listing is absent or damaged.
        """
        table = _open(self._url).read()
        entries = FileEntries(_head(table.schema, self._url).location)
        for name, size in zip(table.column("name").to_pylist(), table.column("size").to_numpy(), strict=True):
            known = None if size == UNKNOWN else int(size)
            entries.append({"name": name, "url": "", "size": known, "changed": ""})
        labels = array("i", table.column("label").to_numpy().astype(np.int32).tobytes())
        return LabelledFiles(entries, (None if label == _UNLABELLED else label for label in labels))


def store_listing(found: ClassFolders, url: str) -> None:
    """Write a listing, unless it is there.

    Raises:
        UserError: it cannot be written.
    """
    if stores.exists(url):
        return
    files, head = found.files, _Head(
        found.location, found.listing, found.class_names, found.refused, found.ignored, found.notes
    )  # fmt: skip
    columns = {
        "name": pa.array((file.name for file in files), pa.large_string()),
        "size": pa.array((UNKNOWN if file.size is None else file.size for file in files), pa.int64()),
        "label": pa.array((_UNLABELLED if file.label is None else file.label for file in files), pa.int32()),
    }
    content = io.BytesIO()
    table = pa.table(columns).replace_schema_metadata({_HEAD: json.dumps(head.to_json())})
    pq.write_table(table, content, compression="zstd", write_page_checksum=True, use_dictionary=["label"])
    stores.write_bytes(url, content.getvalue())


def stored_listing(url: str) -> ClassFolders:
    """Return a stored listing, whose files are read when they are needed.

    Raises:
        UserError: it is absent or damaged.
    """
    file = _open(url)
    head = _head(file.schema_arrow, url)
    files = StoredFiles(url, file.metadata.num_rows)
    return ClassFolders(
        head.location, head.listing, head.class_names, files,
        refused=head.refused, ignored=head.ignored, notes=head.notes,
    )  # fmt: skip


def _open(url: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(io.BytesIO(stores.read_bytes(url)), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(url, one_line(error)) from None


def _head(schema: pa.Schema, url: str) -> _Head:
    if set(schema.names) != {"name", "size", "label"}:
        raise _damaged(url, "it has other columns")
    head: _Head = parse_document((schema.metadata or {}).get(_HEAD, b""), url, _Head, "a listing", _FIX)
    return head


_FIX = "remove it; the same command lists the folder again"


def _damaged(url: str, reason: str) -> UserError:
    return UserError(f"is not a readable listing ({reason})", where=url, fix=_FIX)
