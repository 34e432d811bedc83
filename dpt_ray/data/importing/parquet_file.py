"""Read a Parquet file in memory that the file's own bytes bound, whatever its footer and page headers claim."""

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
"""Maximum decoded bytes of a batch, unless a single row is larger."""
_MAX_IMAGE_PAGE, _MAX_TEXT_PAGE = 128 << 20, 32 << 20
"""Uncompressed bytes of a page. A larger page is accepted only if its compression is low; see `walk_pages`."""
MAX_ROWS_WITHOUT_BYTES = 100_000
"""Maximum number of rows that a file of any size may claim."""
_BYTES_A_ROW = 16
"""Minimum bytes of the file for each row, if it claims more rows. The smallest images have more than twice as many."""
_MAX_FOOTER_BYTES = 64 << 20
_SMALL_FOOTER_BYTES = 256 << 10
"""Maximum bytes of a footer that may be parsed concurrently with others, even if it consists of small structs."""
_UNCOUNTED_FOOTER_BYTES = 1 << 20
"""Maximum bytes of a footer whose structs are not counted."""
_MAX_STRUCTS = 400_000
"""Maximum number of structs of a larger footer. Each column of each row group has about six, and Arrow allocates about
500 bytes for each."""
_MAX_WIDTH = 64
"""Maximum bytes of a value of fixed width; decimals have at most 32."""
_TAIL = 8
"""Bytes after the footer: its length and the magic number."""
_MARK = b"PAR1"

_one_large_footer = Lock()


class Leaf(NamedTuple):
    """A leaf column: one without nested columns.

    Attributes:
        path: its name after the names of the columns that it is nested in, with dots between.
        max_page: maximum uncompressed bytes of a page.
    """

    path: str
    max_page: int


def image_leaf(path: str) -> Leaf:
    """Return the leaf of a column of images."""
    return Leaf(path, _MAX_IMAGE_PAGE)


def text_leaf(path: str) -> Leaf:
    """Return the leaf of a column of labels or other short values."""
    return Leaf(path, _MAX_TEXT_PAGE)


class Chunk(NamedTuple):
    """The compressed bytes and the pages of a leaf in a row group."""

    compressed: int
    pages: Pages


class ParquetFile:
    """An open Parquet file. Get one from `open_parquet`.

    Attributes:
        columns: for each row group, its column chunks by the path of the column.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._size = file.seek(0, 2)
        self._footer, self.columns = self._read_footer()
        self._chunks = _CheckedChunks()
        self._tables: dict[tuple[str, ...], pq.ParquetFile] = {}

    @property
    def schema(self) -> pa.Schema:
        """The names and types of the columns."""
        return self._footer.schema.to_arrow_schema()

    @property
    def groups(self) -> tuple[int, ...]:
        """The number of rows of each row group."""
        return tuple(self._footer.row_group(number).num_rows for number in range(self._footer.num_row_groups))

    def load(self, group: int, leaves: Sequence[Leaf]) -> list[Chunk]:
        """Fetch the bytes of some columns in a row group, and check their pages.

        Args:
            group: index of the row group.
            leaves: the columns.

        Raises:
            ImplausibleFileError: a page decompresses to implausibly many bytes.
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
        # Zeros after the last checked page keep Arrow from reading a page whose header was not checked here.
        self._chunks.add(start, content if pages.stop == size else content[: pages.stop].ljust(size, b"\0"))
        return Chunk(size, pages)

    def batches(
        self, group: int, leaves: Sequence[Leaf], rows: int, as_dictionary: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a row group whose columns are loaded.

        Args:
            group: index of the row group.
            leaves: the columns that were passed to `load`.
            rows: maximum number of rows of a batch.
            as_dictionary: text columns that are read as dictionaries, with each distinct value once.

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
        pa.ArrowException, OSError: the file cannot be read, or is a pipe, a socket or a device.
    """
    with stores.open_file(url) as opened:
        file = ParquetFile(opened)
        _check_rows(file.groups, file._size)
        yield file


def rows_per_batch(chunks: Sequence[Chunk], most: int) -> int:
    """Return the number of rows of a batch whose decoded size is at most `MAX_BATCH_BYTES` in the worst case.

    Args:
        chunks: the columns of the row group; each value may be as large as the column's largest page.
        most: maximum number of rows.

    Returns:
        A number from 1 to `most`.
    """
    largest = sum(chunk.pages.largest for chunk in chunks)
    return max(1, min(most, MAX_BATCH_BYTES // max(1, largest)))


def _parse(tail: bytes) -> tuple[pq.FileMetaData, list[dict[str, ColumnChunk]]]:
    """Return the metadata of a file that ends with `tail`, and the column chunks of its row groups.

    Raises:
        pa.ArrowException, UnicodeDecodeError: the footer is not readable, or its row groups do not fit its schema.
    """
    footer = pq.read_metadata(pa.BufferReader(_MARK + tail))  # Arrow requires the magic number at the beginning
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
    """The file-like object that Arrow reads. It serves only column chunks whose pages were checked."""

    closed = False

    def __init__(self) -> None:
        self._chunks: dict[int, bytes] = {}
        self._position = 0

    def add(self, start: int, content: bytes) -> None:
        self._chunks[start] = content

    def seek(self, position: int, whence: int = 0) -> int:
        self._position = position if whence == 0 else 1 << 62  # Arrow seeks the end once, to read the size of the file
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        content = self._chunks.get(self._position)
        if content is None or size != len(content):
            raise OSError(f"bytes {self._position} to {self._position + size} are not those of a column")
        return content

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def clear(self) -> None:
        self._chunks.clear()

    def close(self) -> None:
        self.clear()
