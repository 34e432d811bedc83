"""A Parquet file whose rows are read in memory that its bytes bound, whatever its footer and pages claim."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dpt_ray.data.importing.parquet_metadata import ColumnChunk, read_row_groups
from dpt_ray.data.importing.parquet_pages import ImplausibleFileError, Pages, walk_pages
from dpt_ray.data.importing.thrift_compact import Reader, ThriftError
from dpt_ray.data.storage import stores

MAX_BATCH_BYTES = 128 << 20
"""Decoded bytes of the rows that are read at a time; more only where a single row has more."""
_MAX_IMAGE_PAGE, _MAX_TEXT_PAGE = 128 << 20, 32 << 20
"""Bytes of a page, uncompressed, above which it may not be compressed much."""
MAX_ROWS_WITHOUT_BYTES = 100_000
"""Rows of a file that are believed whatever its size."""
_BYTES_A_ROW = 16
"""A file with more rows has so many bytes for each at least. The smallest images have more than twice as many."""
_MAX_FOOTER_BYTES = 64 << 20
_SMALL_FOOTER_BYTES = 256 << 10
"""Footers up to here may be read several at a time, even if they are nothing but small structs."""
_UNCOUNTED_FOOTER_BYTES = 1 << 20
"""Up to here the structs of a footer are not counted."""
_MAX_STRUCTS = 400_000
"""Structs of a larger footer: six or so for each column of each row group. Arrow takes about 500 bytes for each."""
_MAX_WIDTH = 64
"""Bytes of a value of fixed width; decimals have 32 at most."""
_TAIL = 8
"""A footer's length and the file's last mark."""
_MARK = b"PAR1"

_one_large_footer = Lock()


class Leaf(NamedTuple):
    """A column without columns inside it.

    Attributes:
        path: its name, with those of the columns that it is in before it.
        max_page: bytes of its largest page, uncompressed.
    """

    path: str
    max_page: int


def image_leaf(path: str) -> Leaf:
    """Return a column of images."""
    return Leaf(path, _MAX_IMAGE_PAGE)


def text_leaf(path: str) -> Leaf:
    """Return a column of labels or of other short values."""
    return Leaf(path, _MAX_TEXT_PAGE)


class Chunk(NamedTuple):
    """A leaf's bytes in a row group."""

    compressed: int
    pages: Pages


class ParquetFile:
    """An open Parquet file. Get one from `open_parquet`.

    Attributes:
        columns: the columns of each row group by path.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._size = file.seek(0, 2)
        self._footer, self.columns = self._read_footer()
        self._chunks = _CheckedChunks()
        self._tables: dict[tuple[str, ...], pq.ParquetFile] = {}

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self._footer.schema.to_arrow_schema()

    @property
    def groups(self) -> tuple[int, ...]:
        """Rows of each row group."""
        return tuple(self._footer.row_group(number).num_rows for number in range(self._footer.num_row_groups))

    def load(self, group: int, leaves: Sequence[Leaf]) -> list[Chunk]:
        """Fetch the bytes of some columns in a row group, and walk their pages.

        Raises:
            ImplausibleFileError: a page decodes to implausibly much.
            OSError: the bytes cannot be read.
        """
        self._chunks.clear()
        rows, found = self.groups[group], []
        for number, (path, column) in enumerate(self.columns[group].items()):
            leaf = next((leaf for leaf in leaves if leaf.path == path), None)
            if leaf is not None:
                if column.values != rows:
                    raise OSError("a column has another number of values than rows")
                found.append(self._load(column, leaf, self._footer.schema.column(number)))
        return found

    def _load(self, column: ColumnChunk, leaf: Leaf, schema: pq.ColumnSchema) -> Chunk:
        if schema.physical_type == "FIXED_LEN_BYTE_ARRAY" and (schema.length or 0) > _MAX_WIDTH:
            raise ImplausibleFileError(
                f"its column {leaf.path!r} has values of {schema.length:,} bytes, at most {_MAX_WIDTH}"
            )
        start, size = column.start, column.compressed
        if start < 0 or not 0 <= size <= self._size - start:
            raise OSError("a column lies outside the file")
        self._file.seek(start)
        content = self._file.read(size)
        pages = walk_pages(content, column.values, leaf.path, leaf.max_page)
        # Arrow finds no page where ours end, so it reads none whose header was not read here.
        self._chunks.add(start, content if pages.stop == size else content[: pages.stop].ljust(size, b"\0"))
        return Chunk(size, pages)

    def batches(
        self, group: int, leaves: Sequence[Leaf], rows: int, as_dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a row group whose columns are loaded.

        Args:
            group: number of the row group.
            leaves: what was given to `load`.
            rows: rows of a batch.
            as_dictionary: columns of text whose repeated values are read once.

        Raises:
            pa.ArrowException, OSError: the rows cannot be read.
        """
        shared = tuple(as_dictionary)
        if shared not in self._tables:
            self._tables[shared] = pq.ParquetFile(
                self._chunks, metadata=self._footer, read_dictionary=list(shared), pre_buffer=False
            )
        columns = list(dict.fromkeys(leaf.path for leaf in leaves))
        yield from self._tables[shared].iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)

    def _read_footer(self) -> tuple[pq.FileMetaData, list[dict[str, ColumnChunk]]]:
        tail = self._read_tail(min(self._size, _SMALL_FOOTER_BYTES))
        length = int.from_bytes(tail[-_TAIL:-4], "little") if tail[-4:] == _MARK else 0
        if not len(tail) < length + _TAIL <= self._size:
            return _parse(tail)
        if length > _MAX_FOOTER_BYTES:
            raise ImplausibleFileError(f"its footer has {length >> 20:,} MiB, at most {_MAX_FOOTER_BYTES >> 20}")
        with _one_large_footer:
            tail = self._read_tail(length + _TAIL)
            if length > _UNCOUNTED_FOOTER_BYTES:
                _count_structs(tail)
            return _parse(tail)

    def _read_tail(self, size: int) -> bytes:
        self._file.seek(self._size - size)
        return self._file.read(size)


@contextmanager
def open_parquet(url: str) -> Iterator[ParquetFile]:
    """Open a Parquet file and read its footer.

    Raises:
        ImplausibleFileError: the footer is implausibly large, or claims more rows than the file can hold.
        pa.ArrowException, OSError: it cannot be read, or is a pipe, a socket or a device.
    """
    with stores.open_file(url) as opened:
        file = ParquetFile(opened)
        _check_rows(file.groups, file._size)
        yield file


def rows_together(chunks: Sequence[Chunk], most: int) -> int:
    """Return how many rows can be decoded at a time, if each of them may hold the largest values of its columns."""
    largest = sum(chunk.pages.largest for chunk in chunks)
    return max(1, min(most, MAX_BATCH_BYTES // max(1, largest)))


def _parse(tail: bytes) -> tuple[pq.FileMetaData, list[dict[str, ColumnChunk]]]:
    """Return the metadata of a file that ends so, and its columns. Arrow wants a mark before it.

    Raises:
        pa.ArrowException, UnicodeDecodeError: it is not readable, or its row groups do not fit its schema.
    """
    footer = pq.read_metadata(pa.BufferReader(_MARK + tail))
    length = int.from_bytes(tail[-_TAIL:-4], "little")
    try:
        return footer, read_row_groups(tail[-_TAIL - length : -_TAIL], footer)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise pa.ArrowInvalid(str(error)) from None


def _count_structs(footer: bytes) -> None:
    try:
        Reader(footer, {}, max_elements=_MAX_STRUCTS).read_struct()
    except ThriftError as error:
        raise ImplausibleFileError(f"its footer is not readable ({error})") from None


def _check_rows(groups: Sequence[int], size: int) -> None:
    if min(groups, default=0) < 0:
        raise ImplausibleFileError("its footer is not readable (a negative number of rows)")
    rows = sum(groups)
    if rows > max(MAX_ROWS_WITHOUT_BYTES, size // _BYTES_A_ROW):
        raise ImplausibleFileError(f"claims {rows:,} rows in {size:,} bytes, which hold no such number of images")


class _CheckedChunks:
    """The file that Arrow reads: it has nothing but chunks whose pages were walked."""

    closed = False

    def __init__(self) -> None:
        self._chunks: dict[int, bytes] = {}
        self._place = 0

    def add(self, start: int, content: bytes) -> None:
        self._chunks[start] = content

    def seek(self, place: int, whence: int = 0) -> int:
        self._place = place if whence == 0 else 1 << 62  # only the end is sought besides, for the file's size
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        content = self._chunks.get(self._place)
        if content is None or size != len(content):
            raise OSError(f"bytes {self._place} to {self._place + size} are not those of a column")
        return content

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def clear(self) -> None:
        self._chunks.clear()

    def close(self) -> None:
        self.clear()
