"""What the pages of a Parquet file decode to, by their own headers: the footer's sizes are claims.

Arrow allocates what a page's header says before it decompresses, and a value may be as large as the largest page.
So the headers are walked, as Arrow walks them, before Arrow is given the bytes.
"""

from dataclasses import dataclass
from typing import Any

from dpt_ray.data.importing.thrift_compact import Fields, Reader, ThriftError

MAX_PAGES = 100_000
"""Pages of one column in a row group."""
MOST_COMPRESSED = 8
"""A page may be larger than the limit if it is at most so many times as large as its compressed bytes."""

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
    """What a file claims or decodes to is implausible for its bytes; the message says so of the file."""


@dataclass(frozen=True)
class Pages:
    """The pages of a column in a row group.

    Attributes:
        largest: bytes of the largest page, uncompressed. No single value is larger.
        total: bytes of all pages, uncompressed.
        has_prefixes: whether texts are stored as the previous one's beginning and an end of their own, so that a page
            can hold more than its bytes.
        stop: where the last readable page ends.
    """

    largest: int
    total: int
    has_prefixes: bool
    stop: int


def walk_pages(chunk: bytes, num_values: int, column: str, limit: int) -> Pages:
    """Read the headers of all pages up to the first that cannot be read.

    Args:
        chunk: the column's bytes in a row group.
        num_values: values in them; Arrow reads no page after the one that completes them.
        column: its name, for messages.
        limit: bytes of the largest page, uncompressed, that is not `MOST_COMPRESSED` times its compressed size.

    Raises:
        ImplausibleFileError: a page is larger, or there are too many pages.
    """
    place = values = largest = total = pages = 0
    has_prefixes = False
    while values < num_values and place < len(chunk):
        reader = Reader(chunk, _KEPT, place)
        try:
            header = reader.read_struct()
            compressed, uncompressed = header[_COMPRESSED], header[_UNCOMPRESSED]
            stop = reader.place + compressed
            if min(compressed, uncompressed) < 0 or stop > len(chunk):
                break
            new_values, encoding = _read_kind(header)
            if not 0 <= new_values <= num_values:  # decoders reserve memory for as many values as a header claims
                break
        except (ThriftError, KeyError, TypeError):
            break
        pages += 1
        if pages > MAX_PAGES:
            raise ImplausibleFileError(f"its column {column!r} has more than {MAX_PAGES:,} pages in one row group")
        if uncompressed > max(limit, MOST_COMPRESSED * compressed):
            raise ImplausibleFileError(
                f"its column {column!r} has a page of {compressed:,} bytes that decompresses to {uncompressed >> 20:,} "
                f"MiB; above {limit >> 20} MiB, at most {MOST_COMPRESSED} times as much is read"
            )
        largest, total = max(largest, uncompressed), total + uncompressed
        has_prefixes |= encoding == _DELTA_BYTE_ARRAY
        values += new_values
        place = stop
    return Pages(largest, total, has_prefixes, place)


def _read_kind(header: dict[int, Any]) -> tuple[int, int | None]:
    """Return the rows of a page and their encoding; none for a page that holds other things."""
    if header[_PAGE_TYPE] == _DATA_PAGE:
        return header[_DATA_HEADER][_VALUES], header[_DATA_HEADER][_ENCODING]
    if header[_PAGE_TYPE] == _DATA_PAGE_V2:
        return header[_DATA_HEADER_V2][_VALUES], header[_DATA_HEADER_V2][_ENCODING_V2]
    if header[_PAGE_TYPE] == _DICTIONARY_PAGE and header[_DICTIONARY_HEADER][_VALUES] > header[_UNCOMPRESSED]:
        raise KeyError("more values than bytes")
    return 0, None
