"""Check the sizes of a Parquet file's pages by their own headers, since the sizes in the footer may be wrong.

Arrow allocates the size in a page's header before it decompresses the page, and a value may be as large as the largest
page. So the headers are read here, in the order in which Arrow reads them, before Arrow receives the bytes.
"""

from dataclasses import dataclass
from typing import Any

from dpt_ray.data.importing.thrift_compact import Fields, Reader, ThriftError

MAX_PAGES = 100_000
"""Maximum number of pages of a column in a row group."""
MAX_COMPRESSION = 8
"""Maximum ratio of uncompressed to compressed bytes of a page that is larger than the limit."""

_PAGE_TYPE, _UNCOMPRESSED, _COMPRESSED, _DATA_HEADER, _DICTIONARY_HEADER, _DATA_HEADER_V2 = 1, 2, 3, 5, 7, 8
_VALUES, _ENCODING, _ENCODING_V2 = 1, 2, 4
_KEPT: Fields = {
    **{field: {} for field in (_PAGE_TYPE, _UNCOMPRESSED, _COMPRESSED)},
    _DATA_HEADER: {_VALUES: {}, _ENCODING: {}},
    _DICTIONARY_HEADER: {_VALUES: {}},
    _DATA_HEADER_V2: {_VALUES: {}, _ENCODING_V2: {}},
}
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_DELTA_BYTE_ARRAY = 7


class ImplausibleFileError(Exception):
    """A file claims or decodes to implausibly much for its size. The message completes "the file ..."."""


@dataclass(frozen=True)
class Pages:
    """The pages of a column in a row group.

    Attributes:
        largest: uncompressed bytes of the largest page. No single value is larger.
        total: uncompressed bytes of all pages.
        has_prefixes: whether a page stores texts as shared prefixes and suffixes (DELTA_BYTE_ARRAY), so that its values
            can be larger than the page.
        stop: byte offset after the last readable page.
    """

    largest: int
    total: int
    has_prefixes: bool
    stop: int


def walk_pages(chunk: bytes, num_values: int, column: str, limit: int) -> Pages:
    """Read the headers of all pages up to the first one that cannot be read.

    Args:
        chunk: the column's bytes in a row group.
        num_values: number of values in the chunk. Arrow reads no page after the one that completes them.
        column: name of the column, for messages.
        limit: maximum uncompressed bytes of a page, unless they are at most `MAX_COMPRESSION` times its compressed
            bytes.

    Raises:
        ImplausibleFileError: a page is too large, or there are too many pages.
    """
    offset = values = largest = total = pages = 0
    has_prefixes = False
    while values < num_values and offset < len(chunk):
        reader = Reader(chunk, _KEPT, offset)
        try:
            header = reader.read_struct()
            compressed, uncompressed = header[_COMPRESSED], header[_UNCOMPRESSED]
            stop = reader.offset + compressed
            if min(compressed, uncompressed) < 0 or stop > len(chunk):
                break
            new_values, encoding = _read_kind(header)
            if not 0 <= new_values <= num_values:  # decoders allocate memory for the number of values in the header
                break
        except (ThriftError, KeyError, TypeError):
            break
        pages += 1
        if pages > MAX_PAGES:
            raise ImplausibleFileError(f"its column {column!r} has more than {MAX_PAGES:,} pages in one row group")
        if uncompressed > max(limit, MAX_COMPRESSION * compressed):
            raise ImplausibleFileError(
                f"its column {column!r} has a page of {compressed:,} bytes that decompresses to {uncompressed >> 20:,} "
                f"MiB; above {limit >> 20} MiB, at most {MAX_COMPRESSION} times as much is read"
            )
        largest, total = max(largest, uncompressed), total + uncompressed
        has_prefixes |= encoding == _DELTA_BYTE_ARRAY
        values += new_values
        offset = stop
    return Pages(largest, total, has_prefixes, offset)


def _read_kind(header: dict[int, Any]) -> tuple[int, int | None]:
    """Return the number of values of a data page and their encoding; (0, None) for other pages."""
    if header[_PAGE_TYPE] == _DATA_PAGE:
        return header[_DATA_HEADER][_VALUES], header[_DATA_HEADER][_ENCODING]
    if header[_PAGE_TYPE] == _DATA_PAGE_V2:
        return header[_DATA_HEADER_V2][_VALUES], header[_DATA_HEADER_V2][_ENCODING_V2]
    if header[_PAGE_TYPE] == _DICTIONARY_PAGE and header[_DICTIONARY_HEADER][_VALUES] > header[_UNCOMPRESSED]:
        raise KeyError("more values than bytes")
    return 0, None
