"""Reads any tar archive, member by member, in bounded time and memory.

`tarfile` reads the extended headers of a member recursively and without a limit of size, some of them in quadratic
time. Here a member has a few extended headers of bounded size, and each block of 512 bytes is read a fixed number of
times. The dialects are those of `tarfile`: ustar, GNU with long names, PAX, and numbers in base 256.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dpt_ray.data.shards.tar_headers import BLOCK

MOST_EXTENDED_HEADERS = 5
"""Most extended headers of a member. Writers use at most two: a name and a table of further values."""
MOST_EXTENDED_BYTES = 1 << 20
"""Most bytes of an extended header."""

_NAME, _SIZE, _CHECKSUM, _PREFIX = slice(0, 100), slice(124, 136), slice(148, 156), slice(345, 500)
_TYPE = 156
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"g", b"L", b"K"
_EXTENDED = (b"x", b"X", _PAX_GLOBAL, _LONG_NAME, _LONG_LINK)
_SPARSE = b"S"
_WITHOUT_PREFIX = (_LONG_NAME, _LONG_LINK, _SPARSE)
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", _FOLDER, b"6")
"""Links, devices, folders and pipes."""
_LONGEST_NUMBER, _LONGEST_SIZE = 10, 20
_BLOCKS_TOGETHER = 1 << 16
_HIGH_BYTES = bytes(range(128, 256))


class BadMemberError(ValueError):
    """A place holds no complete member.

    Attributes:
        place: offset of the invalid header.
        resume: offset at which the search for further members continues.
    """

    def __init__(self, what: str, place: int, resume: int):
        super().__init__(what)
        self.place, self.resume = place, resume


class FoundMember(NamedTuple):
    """A member of an archive.

    Attributes:
        name: its path.
        kind: `file`, `folder`, or `other`: a link, a device or a sparse file.
        begin: offset of its first header.
        start: offset of its content.
        stop: end of its content, which may lie beyond the end of the data.
        next: offset of the next header.
    """

    name: str
    kind: str
    begin: int
    start: int
    stop: int
    next: int


class _Further(NamedTuple):
    """The values in an extended header; None for a value that it does not hold."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False


def read_member(data: bytes, begin: int) -> FoundMember:
    """Return the member whose first header, possibly an extended one, is at `begin`.

    Raises:
        BadMemberError: a header is damaged, or states more content than there is.
    """
    name: str | None = None
    size: int | None = None
    sparse, place = False, begin
    for _ in range(MOST_EXTENDED_HEADERS + 1):
        header = data[place : place + BLOCK]
        if len(header) < BLOCK or not _has_its_checksum(header):
            raise BadMemberError("has a damaged header", place, max(place, begin + BLOCK))
        kind, own_size = header[_TYPE : _TYPE + 1], _number(header[_SIZE])
        if own_size is None or own_size < 0:
            raise BadMemberError("has a header without a size", place, place + BLOCK)
        if kind not in _EXTENDED:
            break
        further = _read_extended(data, place, kind, own_size)
        name = further.name if name is None else name  # the first one counts, as with tarfile
        size = further.size if size is None else size
        sparse = sparse or further.sparse
        place += BLOCK + _padded(own_size)
    else:
        raise BadMemberError(f"has more than {MOST_EXTENDED_HEADERS} extended headers for a member", place, place)
    own_name = _own_name(header, kind)
    if kind == b"\0" and own_name.endswith("/"):
        kind = _FOLDER
    if name is None:
        name = own_name.rstrip("/") if kind == _FOLDER else own_name
    start = place + BLOCK
    stop = start + (0 if kind in _WITHOUT_CONTENT else own_size if size is None else size)
    what = "folder" if kind == _FOLDER else "file" if kind in _FILES and not sparse else "other"
    return FoundMember(name, what, begin, start, stop, start + _padded(stop - start))


def _read_extended(data: bytes, place: int, kind: bytes, size: int) -> _Further:
    """Return the values in the extended header at `place`.

    Raises:
        BadMemberError: the header is damaged or too large.
    """
    start = place + BLOCK
    if size > MOST_EXTENDED_BYTES or start + size > len(data):
        raise BadMemberError(f"has an extended header of {size:,} bytes", place, start)
    content = data[start : start + size]
    if kind == _LONG_NAME:
        return _Further(name=_text(content).rstrip("/"))
    if kind == _LONG_LINK:
        return _Further()
    try:
        further = _pax_values(content)
    except ValueError:
        raise BadMemberError("has a damaged extended header", place, start + _padded(size)) from None
    if kind == _PAX_GLOBAL and further != _Further():
        raise BadMemberError("has one name or size for all of its members", place, start + _padded(size))
    return further


def find_members(data: bytes) -> Iterator[FoundMember]:
    """Yield all complete members in order, with any bytes between them."""
    offset = 0
    for place in _header_places(data):
        if place < offset:
            continue
        try:
            member = read_member(data, place)
        except BadMemberError as error:
            offset = max(error.resume, place + BLOCK)
            continue
        yield member
        offset = max(member.next, place + BLOCK)


def _header_places(data: bytes) -> Iterator[int]:
    """Yield the offsets of blocks with a correct checksum, in order."""
    blocks = np.frombuffer(data, np.uint8, len(data) // BLOCK * BLOCK).reshape(-1, BLOCK)
    could_be = np.zeros(256, bool)
    could_be[list(b"01234567 \0")] = True
    for first in range(0, len(blocks), _BLOCKS_TOGETHER):
        part = blocks[first : first + _BLOCKS_TOGETHER]
        fields = part[:, _CHECKSUM]
        for row in np.flatnonzero(could_be[fields].all(1) & (fields > ord(" ")).any(1)).tolist():
            start = (first + row) * BLOCK
            if _has_its_checksum(data[start : start + BLOCK]):
                yield start


def _has_its_checksum(header: bytes) -> bool:
    """Whether the checksum of a header is the sum of its bytes, signed or unsigned, with blanks in its own field."""
    stated = _number(header[_CHECKSUM])
    if stated is None:
        return False
    unsigned = sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")
    if stated == unsigned:
        return True
    others = header[: _CHECKSUM.start] + header[_CHECKSUM.stop :]
    return stated == unsigned - 256 * (len(others) - len(others.translate(None, _HIGH_BYTES)))


def _number(field: bytes) -> int | None:
    """Return the number in a field of octal digits or in base 256, 0 for an empty field; None for an invalid one."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0x80 else value - 256 ** (len(field) - 1)
    text = field.partition(b"\0")[0].strip()
    try:
        return int(text or b"0", 8) if text.isdigit() or not text else None
    except ValueError:  # the digits 8 and 9
        return None


def _own_name(header: bytes, kind: bytes) -> str:
    name, prefix = _text(header[_NAME]), _text(header[_PREFIX])
    return f"{prefix}/{name}" if prefix and kind not in _WITHOUT_PREFIX else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _pax_values(content: bytes) -> _Further:
    """Return the values in the records of a PAX header: length in bytes, keyword, value, as `28 mtime=1795448149.85`.

    Raises:
        ValueError: the content does not consist of records.
    """
    name, size, sparse, place = None, None, False, 0
    while place < len(content) and content[place]:  # zeros may follow the records
        digits = content[place : place + _LONGEST_NUMBER].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = content[place + len(digits) + 1 : place + length]
        keyword, equals, value = record.partition(b"=")
        if not equals or value[-1:] != b"\n" or place + length > len(content):
            raise ValueError("not a record")
        if keyword == b"path":
            name = value[:-1].decode(errors="surrogateescape").rstrip("/")
        elif keyword == b"size":
            if not value[:-1].isdigit() or len(value) > _LONGEST_SIZE:
                raise ValueError("not a size")
            size = int(value)
        elif keyword.startswith(b"GNU.sparse."):
            sparse = True
        place += length
    return _Further(name, size, sparse)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
