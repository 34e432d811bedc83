"""The orientation of an image by its EXIF block or XMP text, and turning it upright.

Pillow turns an image by rewriting its EXIF block, and reads every value of the block. Both fail for blocks of some
cameras and editors. Here one entry is read, nothing is written, and no content of a block raises an error.

The orientation is that of Pillow: the first orientation entry of the first directory, its first value, of any number
type. Bytes, text and values outside 1 to 8 are no orientation. XMP is used where EXIF has no such entry. Unlike in
Pillow, damage in other entries has no effect.
"""

import re
import struct
from numbers import Real

from PIL import Image

ORIENTATION = 0x0112
"""The EXIF tag; 1 is upright."""

UPRIGHT = 1

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PREFIX = b"Exif\0\0"
_HEADERS = {b"II*\0": "<", b"MM\0*": ">"}
_ENTRY_BYTES = 12
_NUMBERS = {3: "H", 4: "L", 5: "LL", 6: "b", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d", 13: "L", 16: "Q"}
"""TIFF's code of a number type -> its format in `struct`. Two letters are numerator and denominator."""
_XMP_TEXT = re.compile(r'tiff:Orientation(?:="|>)([0-9])')
_XMP_BYTES = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation(exif: bytes, xmp: bytes | str = b"") -> int:
    """Return the orientation, 1 to 8, by an EXIF block, or by an XMP text if the block has none; 1 if neither has one.

    Args:
        exif: the EXIF block: a TIFF header and its directories, with or without the prefix `Exif`.
        xmp: the XMP text.
    """
    stated = _stated_by_exif(exif)
    if stated is None and xmp:
        found = _XMP_TEXT.search(xmp) if isinstance(xmp, str) else _XMP_BYTES.search(xmp)
        stated = int(found[1]) if found else None
    return valid_orientation(stated)


def valid_orientation(value: object) -> int:
    """Return a value if it is one of the eight orientations, otherwise 1."""
    return int(float(value)) if isinstance(value, Real) and value in _TRANSPOSITIONS else UPRIGHT


def _stated_by_exif(exif: bytes) -> float | None:
    """Return the value of the orientation entry; None if there is no entry, NaN if it is not a number."""
    block = memoryview(exif)
    for _ in range(2):
        block = block[len(_PREFIX) :] if block[: len(_PREFIX)] == _PREFIX else block
    order = _HEADERS.get(bytes(block[:4]))
    if order is None or len(block) < 8:
        return None
    (place,) = struct.unpack_from(f"{order}L", block, 4)
    if place + 2 > len(block):
        return None
    (entries,) = struct.unpack_from(f"{order}H", block, place)
    first = place + 2
    entries = min(entries, (len(block) - first) // _ENTRY_BYTES)
    for start in range(first, first + entries * _ENTRY_BYTES, _ENTRY_BYTES):
        tag, kind, count = struct.unpack_from(f"{order}HHL", block, start)
        if tag == ORIENTATION and count:
            return _value(block, order, kind, count, start + 8)
    return None


def _value(block: memoryview, order: str, kind: int, count: int, place: int) -> float:
    """Return the first value of an entry. Its value, or the offset of its values, is at `place`."""
    form = _NUMBERS.get(kind)
    if form is None:
        return float("nan")
    form = order + form
    if count * struct.calcsize(form) > 4:
        (place,) = struct.unpack_from(f"{order}L", block, place)
    if place + struct.calcsize(form) > len(block):
        return float("nan")
    value, *below = struct.unpack_from(form, block, place)
    if below:
        return value / below[0] if below[0] else float("nan")
    return value


def turn(image: Image.Image, stated: int) -> Image.Image:
    """Turn an image upright that is stored with the orientation `stated`, 1 to 8."""
    method = _TRANSPOSITIONS.get(stated)
    return image if method is None else image.transpose(method)
