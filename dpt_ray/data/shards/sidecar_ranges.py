"""Some rows of a sidecar, fetched as one range of bytes: the row groups of the Parquet file that hold them."""

import io
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from dpt_ray.data.shards.sidecars import arrow_errors, columns_of
from dpt_ray.data.storage import stores
from dpt_ray.errors import UserError

LEAST_FOOTER_BYTES, MOST_FOOTER_BYTES, FOOTER_SHARE = 4 * 2**10, 64 * 2**10, 1 / 64
"""Least and most bytes at the end of a file that are fetched to read its footer, and their share of the file between
both. A longer footer takes another request."""

MOST_KNOWN_BYTES = 64 * 2**20
"""Most bytes of the footers that a process remembers."""

_END_BYTES = 8
"""Bytes behind a footer: its length, and the magic word."""


@dataclass(frozen=True)
class SidecarRows:
    """Rows of a sidecar.

    Attributes:
        first: number of the first row.
        columns: see `decode_sidecar`.
        rows: number of rows of the whole sidecar.
        footer: the file's footer, with its schema and facts.
    """

    first: int
    columns: Mapping[str, Any]
    rows: int
    footer: pq.FileMetaData


def read_sidecar_rows(url: str, columns: Sequence[str], start: int, stop: int) -> SidecarRows:
    """Fetch rows [start, stop) of a sidecar, and those that share row groups with them.

    The file's footer is remembered. If the file does not fit it, it is fetched once more: the file may be another one.

    Args:
        url: URL of the sidecar.
        columns: names of the columns to read beside `key`.
        start: the first row.
        stop: the row after the last one, at most the number of rows.

    Raises:
        UserError: the sidecar cannot be read, or a column is missing.
    """
    with _lock:
        known = _footers.pop(url, None)
    if known is not None:
        try:
            return _read(url, known, columns, start, stop)
        except UserError:
            pass
    return _read(url, _fetch_footer(url), columns, start, stop)


@dataclass(frozen=True)
class _Footer:
    size: int
    metadata: pq.FileMetaData


_lock = threading.Lock()
_footers: OrderedDict[str, _Footer] = OrderedDict()


def _fetch_footer(url: str) -> _Footer:
    size = stores.file_size(url)
    expected = max(LEAST_FOOTER_BYTES, min(MOST_FOOTER_BYTES, int(FOOTER_SHARE * size)))
    end = stores.read_range(url, max(0, size - expected), size)
    length = int.from_bytes(end[-_END_BYTES : -_END_BYTES // 2], "little") + _END_BYTES
    if len(end) < length <= size:
        end = stores.read_range(url, size - length, size)
    with arrow_errors(url):
        return _Footer(size, pq.read_metadata(io.BytesIO(end[-length:])))  # a file without any data


def _read(url: str, footer: _Footer, columns: Sequence[str], start: int, stop: int) -> SidecarRows:
    metadata = footer.metadata
    groups: list[int] = []
    first = row = 0
    for number in range(metadata.num_row_groups):
        rows = metadata.row_group(number).num_rows
        if row < stop and row + rows > start:
            first = first if groups else row
            groups.append(number)
        row += rows
    if not groups:
        raise UserError(f"has {row} rows but row {start} is needed", where=url)
    begin, end = _bytes_of(metadata, groups)
    part = _Part(footer.size, begin, stores.read_range(url, begin, end))
    with arrow_errors(url):
        file = pq.ParquetFile(part, metadata=metadata, page_checksum_verification=True)
        found = columns_of(file, url, columns, groups)
    _remember(url, footer)
    return SidecarRows(first, found, row, metadata)


def _bytes_of(metadata: pq.FileMetaData, groups: Sequence[int]) -> tuple[int, int]:
    """Return the range of bytes that holds all columns of row groups."""
    chunks = [metadata.row_group(group).column(number) for group in groups for number in range(metadata.num_columns)]
    begins = [
        chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
        for chunk in chunks
    ]
    ends = [begin + chunk.total_compressed_size for begin, chunk in zip(begins, chunks, strict=True)]
    return min(begins), max(ends)


def _remember(url: str, footer: _Footer) -> None:
    with _lock:
        _footers[url] = footer  # at the end, as the most recently used
        while len(_footers) > 1 and sum(f.metadata.serialized_size for f in _footers.values()) > MOST_KNOWN_BYTES:
            _footers.popitem(last=False)


class _Part(io.RawIOBase):
    """A file of which only one range of bytes is there; reading outside of it raises OSError.

    Args:
        size: length of the file.
        begin: the first byte that is there.
        content: the bytes that are there.
    """

    def __init__(self, size: int, begin: int, content: bytes):
        super().__init__()
        self._size, self._begin, self._content = size, begin, content
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._size, self._place + size)
        first, last = self._place - self._begin, stop - self._begin
        if first < 0 or last > len(self._content):
            raise OSError(f"bytes {self._place} to {stop} were not fetched")
        self._place = stop
        return self._content[first:last]
