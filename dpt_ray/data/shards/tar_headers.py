"""Reads all headers of a plain tar archive at once, with NumPy; `tar_members` reads all other archives.

To read one member after another takes about as long as decoding JPEGs of CIFAR's size. Here all headers are found by
their magic word. The check that each member ends where the next header begins proves that no other header exists.
A block here is one of the tar format, 512 bytes.
"""

from collections.abc import Iterator

import numpy as np

BLOCK = 512
END_BLOCKS = 2
"""Least number of blocks of zeros at the end of an archive."""

_NAME, _SIZE, _CHECKSUM, _MAGIC, _PREFIX = slice(0, 100), slice(124, 136), slice(148, 156), 257, 345
_TYPE, _USTAR = 156, b"ustar"
_PLAIN_FILE, _EXTENDED = (0, ord("0")), ord("x")
_ODD = ("\0", "/\n", "\n/", "..", "\n.", "/.", "\n\n", "\n__", "@eadir", "#recycle", "$recycle", "system volume",
        "thumbs.db\n", "desktop.ini\n", "icon\r")  # fmt: skip
"""Texts that need `tar_members` if they occur in the names, which stand on lines of their own in lower case: of a NUL
byte, a folder, an absolute name, a name that may point outside, a hidden name or one with `./`, an empty name, and of
members that may have to be ignored (`passed_over`)."""
_TIMES = {b"mtime", b"atime", b"ctime"}

Member = tuple[str, int, int]
"""Name of a member, and the first byte and the end of its content in the archive."""


def plain_members(data: bytes) -> Iterator[Member] | None:
    """Return the members of an archive of plain files in ustar format, in order.

    Extended headers (PAX) may hold times, as `webdataset.TarWriter` writes them before every member.

    Returns:
        The members; None for any other archive, damaged or not: with other kinds of members or of extended headers
        (PAX, GNU), numbers that are not octal, names that are not UTF-8 or point outside, a wrong checksum, or no end
        mark.
    """
    if not data or len(data) % BLOCK:
        return None
    blocks = np.frombuffer(data, np.uint8).reshape(-1, BLOCK)
    magic = np.ndarray(len(blocks), f"S{len(_USTAR)}", data, offset=_MAGIC, strides=(BLOCK,))
    places = np.flatnonzero(magic == _USTAR)
    if len(places) == 0:
        return None
    headers = blocks[places]
    sizes = _octal(headers[:, _SIZE], digits=11)
    sums = _octal(headers[:, _CHECKSUM], digits=6)
    kinds = headers[:, _TYPE]
    if sizes is None or sums is None or not np.isin(kinds, (*_PLAIN_FILE, _EXTENDED)).all():
        return None
    if headers[:, _PREFIX].any():
        return None
    ends = places + 1 + -(-sizes // BLOCK)
    chained = places[0] == 0 and (ends[:-1] == places[1:]).all() and ends[-1] + END_BLOCKS <= len(blocks)
    if not chained or blocks[ends[-1] :].any():
        return None
    # The checksum of a header is the sum of its bytes, with blanks in the field of the checksum.
    blank = ord(" ") * 8
    own = headers[:, _CHECKSUM].sum(1, dtype=np.int64)
    if (headers.sum(1, dtype=np.uint32) - own + blank != sums).any():  # 32 bits add twice as fast as 64
        return None
    extended = kinds == _EXTENDED
    if extended.any():
        orphaned = extended[-1] or (extended[:-1] & extended[1:]).any()  # no member follows the extended header
        if orphaned or not _only_times(data, places[extended], sizes[extended]):
            return None
        headers, places, sizes = headers[~extended], places[~extended], sizes[~extended]
    names = np.ascontiguousarray(headers[:, _NAME]).view("S100").ravel().tolist()  # without the zeros at the end
    try:
        texts = b"\n".join(names).decode().split("\n")
    except UnicodeDecodeError:
        return None
    starts = (places + 1) * BLOCK
    everything = "\n".join(["", *texts, ""]).lower()
    if len(texts) != len(names) or any(odd in everything for odd in _ODD):
        return None
    return zip(texts, starts.tolist(), (starts + sizes).tolist(), strict=True)  # a list would hold thousands of tuples


def _only_times(data: bytes, places: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether extended headers hold only times, as records of the form `28 mtime=1795448149.85`."""
    for start, size in zip(((places + 1) * BLOCK).tolist(), sizes.tolist(), strict=True):
        for record in data[start : start + size].split(b"\n")[:-1]:
            if record.partition(b" ")[2].partition(b"=")[0] not in _TIMES:
                return False
    return True


def _octal(fields: np.ndarray, digits: int) -> np.ndarray | None:
    """Return the numbers in fields of `digits` octal digits and a NUL byte or blank; None if one has another form."""
    values = fields[:, :digits].astype(np.int64) - ord("0")
    if ((values < 0) | (values > 7)).any() or not np.isin(fields[:, digits], (0, ord(" "))).all():
        return None
    return values @ (8 ** np.arange(digits - 1, -1, -1))
